"""Minimal base images made of Debian packages, where no registry is reachable."""

from mendel.adapters.debian.base import BaseRecipe, MadeBase, make_base

__all__ = ["BaseRecipe", "MadeBase", "make_base"]
