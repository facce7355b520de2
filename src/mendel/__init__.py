"""
Mendel keeps machine-learning models alive in production.

    registry = mendel.connect()          # the hub of ./.mendel, in process or over HTTP
    mendel.DriftDetector(reference, current).detect()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mendel.app.connect import connect
    from mendel.drift import DriftDetector

__version__ = "0.1.0"
__all__ = ["DriftDetector", "__version__", "connect"]


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: the command line must start quickly."""
    if name == "connect":
        from mendel.app.connect import connect  # noqa: PLC0415

        return connect
    if name == "DriftDetector":
        from mendel.drift import DriftDetector  # noqa: PLC0415

        return DriftDetector
    raise AttributeError(f"module 'mendel' has no attribute {name!r}")
