"""Directories on local disk: the inbox of segments, and tables as files."""

from mendel.adapters.files.inbox import FileInbox
from mendel.adapters.files.tables import read_table, write_table

__all__ = ["FileInbox", "read_table", "write_table"]
