"""Git repositories, read and tagged with the program ``git``."""

from mendel.adapters.git.anchors import GitAnchors
from mendel.adapters.git.repositories import GitPrograms

__all__ = ["GitAnchors", "GitPrograms"]
