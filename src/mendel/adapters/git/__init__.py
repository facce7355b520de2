"""Git repositories, read and tagged with the program ``git``."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mendel.adapters.git.anchors import GitAnchors
    from mendel.adapters.git.repositories import GitPrograms
else:
    from mendel.lazy_exports import lazy_exports

    __getattr__ = lazy_exports(__name__)

__all__ = ["GitAnchors", "GitPrograms"]
