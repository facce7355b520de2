"""Wheels by the program pip: which ones fit, and having them at hand by content."""

from mendel.adapters.pip.resolver import PipResolver
from mendel.adapters.pip.wheels import CachedWheels

__all__ = ["CachedWheels", "PipResolver"]
