"""
Mendel keeps machine-learning models alive in production.

    registry = mendel.connect()          # the hub of ./.mendel, in process or over HTTP
    mendel.DriftDetector(reference, current).detect()
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mendel.lazy_exports import lazy_exports
from mendel.version import __version__

if TYPE_CHECKING:
    from mendel.app.connect import connect
    from mendel.drift import DriftDetector
    from mendel.serving import RemoteModel
else:
    __getattr__ = lazy_exports(__name__)

__all__ = ["DriftDetector", "RemoteModel", "__version__", "connect"]
