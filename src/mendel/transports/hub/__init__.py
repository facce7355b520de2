"""The HTTP server of the hub's control API."""

from mendel.transports.hub.application import OPEN_PATHS, create_app

__all__ = ["OPEN_PATHS", "create_app"]
