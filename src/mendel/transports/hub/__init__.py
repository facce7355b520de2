"""The control API."""

from mendel.transports.hub.application import OPEN_PATHS, create_app
from mendel.transports.hub.parts import Anchors, HubParts
from mendel.transports.hub.proof import prove

__all__ = ["OPEN_PATHS", "Anchors", "HubParts", "create_app", "prove"]
