"""Health of the hub itself, for anybody who reaches its port."""

from __future__ import annotations

from dataclasses import dataclass

from mendel.errors import StoreUnavailable
from mendel.operations.hub_parts import Call, HubHealth
from mendel.operations.operation import Alternative, operation
from mendel.operations.requests import Nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Alive:
    """The hub's event loop turns, or its database answers."""

    status: str


@operation(
    "GET", "/health", scope=None, alternative=Alternative(status=503, when=lambda told: told.status == "unhealthy")
)
def hub_health(call: Call, _: Nothing) -> HubHealth:
    """Probe every service of the hub; 503 when the state database does not answer."""
    return call.hub.health()


@operation("GET", "/live", scope=None, inline=True)
def live(_: Call, __: Nothing) -> Alive:
    """Answer while the event loop turns."""
    return Alive(status="alive")


@operation("GET", "/ready", scope=None, errors=(StoreUnavailable,))
def ready(call: Call, _: Nothing) -> Alive:
    """Answer while the state database does."""
    call.hub.registry.lifecycle.revision()
    return Alive(status="ready")
