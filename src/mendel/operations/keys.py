"""Keys of the API."""

from __future__ import annotations

from dataclasses import dataclass

from mendel.operations.hub_parts import Call
from mendel.operations.operation import operation
from mendel.values import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class AddKey:
    """Asks for a key with *scopes*."""

    scopes: tuple[str, ...]
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key's secret, shown once."""

    secret: str


@operation("POST", "/keys", scope=Scope.ADMIN, status=201)
def add_key(call: Call, request: AddKey) -> NewKey:
    """Make a key; its secret is shown this once."""
    return NewKey(secret=call.hub.registry.keys.add(request.scopes, request.label, by=call.by))
