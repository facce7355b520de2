"""Wheels by the program pip: which ones fit, and having them at hand by content."""

from mendel.adapters.pip.pip_program import Pip
from mendel.adapters.pip.resolver import PipResolver
from mendel.adapters.pip.wheel_cache import CachedWheels
from mendel.adapters.pip.wheel_writer import payload_digest, write_wheel

__all__ = ["CachedWheels", "Pip", "PipResolver", "payload_digest", "write_wheel"]
