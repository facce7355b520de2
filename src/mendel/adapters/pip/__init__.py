"""Wheels by the program pip: which ones fit, and having them at hand by content."""

from mendel.adapters.pip.program import Pip
from mendel.adapters.pip.resolver import PipResolver
from mendel.adapters.pip.wheel_file import payload_digest, write_wheel
from mendel.adapters.pip.wheels import CachedWheels

__all__ = ["CachedWheels", "Pip", "PipResolver", "payload_digest", "write_wheel"]
