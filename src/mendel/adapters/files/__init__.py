"""The inbox of segments as a directory on local disk."""

from mendel.adapters.files.segment_inbox import FileInbox

__all__ = ["FileInbox"]
