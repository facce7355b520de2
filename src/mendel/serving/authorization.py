"""The one decision about who may do what at an inference door."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from mendel.errors import Forbidden, Unauthenticated
from mendel.values import Scope

Keys = Mapping[str, tuple[str, ...]]
"""The SHA-256 (hex) of each API key, and its scopes."""


def authorize(keys: Keys, credential: str | None, scope: Scope | None, *, remedy: str) -> None:
    """
    Let the call through, or say why not.

    Predicting is open until a key with the scope ``predict`` exists; everything else needs a key with its scope. The
    scope ``admin`` holds all others.

    Args:
        scope: What the route declares; None is open to all (health, documentation).
        remedy: How a caller of this door sends a key.

    Raises:
        Unauthenticated: No key where one is needed, or an unknown one.
        Forbidden: The key lacks the scope.
    """
    if scope is None:
        return
    open_to_all = scope is Scope.PREDICT and not any(Scope.PREDICT in scopes for scopes in keys.values())
    if not credential:
        if open_to_all:
            return
        raise Unauthenticated(f"This needs an API key with the scope {scope}.", remedy=remedy)
    scopes = keys.get(hashlib.sha256(credential.encode()).hexdigest())
    if scopes is None:
        if open_to_all:
            return
        raise Unauthenticated("The API key is unknown.", remedy="Make one with: mendel keys add.")
    if scope not in scopes and Scope.ADMIN not in scopes and not open_to_all:
        raise Forbidden(f"The API key lacks the scope {scope}.", remedy=f"It has {', '.join(scopes) or 'none'}.")
