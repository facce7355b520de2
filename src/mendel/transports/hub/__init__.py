"""The control API."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mendel.transports.hub.application import OPEN_PATHS, create_app
    from mendel.transports.hub.parts import Anchors, HubParts
    from mendel.transports.hub.policies import checked_policy
    from mendel.transports.hub.proof import prove

__all__ = ["OPEN_PATHS", "Anchors", "HubParts", "checked_policy", "create_app", "prove"]

_HOMES = {
    "OPEN_PATHS": "application",
    "Anchors": "parts",
    "HubParts": "parts",
    "checked_policy": "policies",
    "create_app": "application",
    "prove": "proof",
}


def __getattr__(name: str) -> Any:
    """Import on first use: clients speak this package's nouns and problems without the web framework."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
