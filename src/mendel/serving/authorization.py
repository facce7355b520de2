"""Check whether an API key may call a route of an inference server."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime

from mendel.errors import Forbidden, Unauthenticated
from mendel.values import Scope

Keys = Mapping[str, tuple[str, ...]]
"""Maps the SHA-256 (hex) of each API key to the scopes of the key."""


def authorize(
    keys: Keys,
    credential: str | None,
    scope: Scope | None,
    *,
    remedy: str,
    expiries: Mapping[str, datetime],
    clock: Callable[[], datetime],
) -> None:
    """
    Raise an error unless the API key *credential* may call a route that needs *scope*.

    Prediction routes need no key until a key with the scope ``predict`` exists. A key with the scope ``admin`` may call
    every route.

    Args:
        credential: The API key of the request; None or empty when the request has none.
        scope: The scope that the route needs; None when the route needs no key (health, documentation).
        remedy: The advice for a caller without a key: how to send a key over this protocol.
        expiries: The time from which a key is refused, by the SHA-256 (hex) of the key.
        clock: Gives the current time; asked only about a key that expires.

    Raises:
        Unauthenticated: The route needs a key, and the request has no key, or an unknown or expired one.
        Forbidden: The key lacks the scope.
    """
    if scope is None:
        return
    open_to_all = scope is Scope.PREDICT and not any(Scope.PREDICT in scopes for scopes in keys.values())
    if not credential:
        if open_to_all:
            return
        raise Unauthenticated(f"This request needs an API key with the scope '{scope}'.", remedy=remedy)
    digest = hashlib.sha256(credential.encode()).hexdigest()
    scopes, end = keys.get(digest), expiries.get(digest)
    if scopes is None:
        if open_to_all:
            return
        raise Unauthenticated("The API key is unknown or revoked.", remedy="Create a key with: mendel keys add.")
    if end is not None and end <= clock() and not open_to_all:
        raise Unauthenticated(
            f"The API key expired at {end:%Y-%m-%d %H:%M:%S} UTC.", remedy="Renew the key with: mendel keys rotate."
        )
    if scope not in scopes and Scope.ADMIN not in scopes and not open_to_all:
        raise Forbidden(
            f"The API key lacks the scope '{scope}'; its scopes are: {', '.join(scopes) or 'none'}.",
            remedy="Use a key with that scope.",
        )
