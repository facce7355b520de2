"""The control API over HTTP."""

from mendel.transports.hub.application import OPEN_PATHS, create_app

__all__ = ["OPEN_PATHS", "create_app"]
