"""Root file systems of minimal base images, made from Debian packages when no image registry is reachable."""

from mendel.adapters.debian.root_filesystem import BaseRecipe, unpacked_root

__all__ = ["BaseRecipe", "unpacked_root"]
