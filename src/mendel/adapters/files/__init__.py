"""Directories on local disk: the inbox of segments, and tables as files."""

from mendel.adapters.files.segment_inbox import FileInbox
from mendel.adapters.files.table_files import read_table, write_table

__all__ = ["FileInbox", "read_table", "write_table"]
