"""git itself, in few processes."""

from mendel.adapters.git.repositories import GitPrograms

__all__ = ["GitPrograms"]
