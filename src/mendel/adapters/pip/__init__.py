"""Resolve requirements to wheels with pip, and keep the wheels in a cache by content."""

from mendel.adapters.pip.pip_program import Pip
from mendel.adapters.pip.resolver import PipResolver
from mendel.adapters.pip.wheel_cache import CachedWheels
from mendel.adapters.pip.wheel_writer import payload_digest, write_wheel

__all__ = ["CachedWheels", "Pip", "PipResolver", "payload_digest", "write_wheel"]
