"""Store sealed prediction segments, ledger anchors and the ledger's signing keys as files on the local disk."""

from mendel.adapters.files.anchors import FileAnchors
from mendel.adapters.files.segment_inbox import FileInbox
from mendel.adapters.files.signing_keys import FileSigningKeys

__all__ = ["FileAnchors", "FileInbox", "FileSigningKeys"]
