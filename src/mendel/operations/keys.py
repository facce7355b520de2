"""Operations on API keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from mendel.errors import Conflict, KeyNotFound
from mendel.operations.hub_parts import Call
from mendel.operations.operation import operation
from mendel.operations.requests import Nothing
from mendel.registry import KeyDescription, NewKey
from mendel.values import Moment, Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class AddKey:
    """
    The request for a new API key.

    Attributes:
        label: A name for people, such as the owner's; events name the key by its id.
        expires_at: The time from which the key is refused; None for a key without an end.
    """

    scopes: tuple[str, ...]
    label: str
    expires_at: Moment | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OneKey:
    """The request for one API key."""

    key_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateKey(OneKey):
    """
    The request to give a key a new secret.

    Attributes:
        overlap: How long the former secret is accepted too.
        expires_at: The new end of the key; None keeps its end.
    """

    overlap: timedelta = timedelta(0)
    expires_at: Moment | None = None


@operation("GET", "/keys", scope=Scope.ADMIN)
def list_keys(call: Call, _: Nothing) -> tuple[KeyDescription, ...]:
    """List every API key without its secret, oldest first; expired and revoked keys too."""
    return call.hub.registry.keys.all()


@operation("POST", "/keys", scope=Scope.ADMIN, status=201)
def add_key(call: Call, request: AddKey) -> NewKey:
    """Create an API key; the answer is the only place that shows its secret."""
    return call.hub.registry.keys.add(request.scopes, request.label, expires_at=request.expires_at, by=call.by)


@operation("POST", "/keys/{key_id}/rotate", scope=Scope.ADMIN, errors=(KeyNotFound, Conflict))
def rotate_key(call: Call, request: RotateKey) -> NewKey:
    """Give an API key a new secret; the answer is the only place that shows the secret."""
    keys = call.hub.registry.keys
    return keys.rotate(request.key_id, overlap=request.overlap, expires_at=request.expires_at, by=call.by)


@operation("POST", "/keys/{key_id}/revoke", scope=Scope.ADMIN, errors=(KeyNotFound, Conflict))
def revoke_key(call: Call, request: OneKey) -> KeyDescription:
    """Refuse an API key from now on, in the hub and, once they follow, in all servers."""
    return call.hub.registry.keys.revoke(request.key_id, by=call.by)


@operation("GET", "/principals", scope=Scope.READ)
def principals(call: Call, _: Nothing) -> dict[str, str]:
    """Map the principal of each API key, as events name it, to the label of the key."""
    return call.hub.registry.keys.labels()
