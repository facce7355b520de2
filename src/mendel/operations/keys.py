"""Operations on API keys."""

from __future__ import annotations

from dataclasses import dataclass

from mendel.operations.hub_parts import Call
from mendel.operations.operation import operation
from mendel.values import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class AddKey:
    """The request for a new API key with *scopes*; *label* says what the key is for."""

    scopes: tuple[str, ...]
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A new API key; the secret cannot be read again later."""

    secret: str


@operation("POST", "/keys", scope=Scope.ADMIN, status=201)
def add_key(call: Call, request: AddKey) -> NewKey:
    """Create an API key; the answer is the only place that shows its secret."""
    return NewKey(secret=call.hub.registry.keys.add(request.scopes, request.label, by=call.by))
