"""The health of the hub; these operations need no API key."""

from __future__ import annotations

from dataclasses import dataclass

from mendel.errors import StoreUnavailable
from mendel.operations.hub_parts import Call, HubHealth
from mendel.operations.operation import Alternative, operation
from mendel.operations.requests import Nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive:
    """The answer of a hub that is live or ready."""

    status: str


@operation(
    "GET", "/health", scope=None, alternative=Alternative(status=503, when=lambda told: told.status == "unhealthy")
)
def hub_health(call: Call, _: Nothing) -> HubHealth:
    """Check every service of the hub; 503 when the state database cannot be read."""
    return call.hub.health()


@operation("GET", "/live", scope=None, inline=True)
def live(_: Call, __: Nothing) -> Alive:
    """Answer that the hub is live, without reading the database."""
    return Alive(status="alive")


@operation("GET", "/ready", scope=None, errors=(StoreUnavailable,))
def ready(call: Call, _: Nothing) -> Alive:
    """Answer that the hub is ready, after reading the state database."""
    call.hub.registry.lifecycle.revision()
    return Alive(status="ready")
