"""Resolve requirements to wheels with pip, and keep the wheels in a cache by content."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mendel.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from mendel.adapters.pip.pip_program import Pip
    from mendel.adapters.pip.resolver import PipResolver
    from mendel.adapters.pip.wheel_cache import CachedWheels
    from mendel.adapters.pip.wheel_writer import payload_digest, write_wheel
else:
    __getattr__ = lazy_exports(__name__)

__all__ = ["CachedWheels", "Pip", "PipResolver", "payload_digest", "write_wheel"]
