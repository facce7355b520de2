"""Find the principal that the credential of a request to the hub proves, and check the principal's scopes."""

from __future__ import annotations

from typing import Protocol

from starlette.requests import Request

from mendel.errors import Forbidden, Unauthenticated
from mendel.values import Principal, Scope

ANYBODY = Principal(id="anybody", scopes=())
"""The caller of an operation that needs no key."""


class Keys(Protocol):
    """Looks up API keys."""

    def principal(self, secret: str) -> Principal:
        """Give the principal whose secret is *secret*; raises Unauthenticated if the secret is not accepted."""


def presented_key(request: Request) -> str | None:
    """Read the API key from ``Authorization: Bearer`` or ``X-API-Key``; None without either header."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and secret:
        return secret.strip()
    return request.headers.get("x-api-key")


def authorise(keys: Keys, request: Request, scope: Scope | None, *, opener: Principal | None = None) -> Principal:
    """
    Give the principal of *request*; only the API key tells who calls, and no other part of the request.

    Args:
        scope: The scope that the principal needs; None needs no key.
        opener: The user whose process opened the data directory, and who is meant by the key in its file; None takes
            the owner of that file.

    Raises:
        Unauthenticated: The request has no key, or an unknown, expired or revoked key.
        Forbidden: The key lacks the scope.
    """
    if scope is None:
        return ANYBODY
    secret = presented_key(request)
    if not secret:
        raise Unauthenticated(
            f"This request needs an API key with the scope '{scope}'.",
            remedy="Send the key as 'Authorization: Bearer <key>'; the file .mendel/key holds the embedded hub's key.",
        )
    principal = keys.principal(secret)
    if not principal.may(scope):
        raise Forbidden(f"The API key lacks the scope '{scope}'.", remedy="Use a key with that scope.")
    return opener if opener is not None and principal.is_local else principal
