"""Store sealed prediction segments and signed ledger anchors as files on the local disk."""

from mendel.adapters.files.anchors import FileAnchors
from mendel.adapters.files.segment_inbox import FileInbox

__all__ = ["FileAnchors", "FileInbox"]
