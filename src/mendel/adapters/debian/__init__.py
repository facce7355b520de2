"""The root file systems of minimal base images, from Debian packages, where no registry is reachable."""

from mendel.adapters.debian.root_filesystem import BaseRecipe, unpacked_root

__all__ = ["BaseRecipe", "unpacked_root"]
