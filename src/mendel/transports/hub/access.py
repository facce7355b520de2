"""Check the API key of a request to the hub, and read the name that the caller gives."""

from __future__ import annotations

from typing import Protocol
from urllib.parse import unquote

from starlette.requests import Request

from mendel.errors import Forbidden, Unauthenticated
from mendel.values import Scope


class Keys(Protocol):
    """Looks up the scopes of API keys."""

    def scopes_of(self, secret: str) -> tuple[str, ...] | None:
        """Give the scopes of the key *secret*; None when the key is unknown or revoked."""


def presented_key(request: Request) -> str | None:
    """Read the API key from ``Authorization: Bearer`` or ``X-API-Key``; None without either header."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and secret:
        return secret.strip()
    return request.headers.get("x-api-key")


def authorise(keys: Keys, request: Request, scope: Scope | None) -> None:
    """
    Raise an error unless the API key of *request* has *scope* or ``admin``; if *scope* is None, no key is needed.

    Raises:
        Unauthenticated: The request has no key, or an unknown key.
        Forbidden: The key lacks the scope.
    """
    if scope is None:
        return
    secret = presented_key(request)
    scopes = keys.scopes_of(secret) if secret else None
    if scopes is None:
        raise Unauthenticated(
            f"This request needs an API key with the scope '{scope}'." if secret is None else "The API key is unknown.",
            remedy="Send the key as 'Authorization: Bearer <key>'; the file .mendel/key holds the embedded hub's key.",
        )
    if scope not in scopes and Scope.ADMIN not in scopes:
        raise Forbidden(f"The API key lacks the scope '{scope}'.", remedy="Use a key with that scope.")


def actor(request: Request) -> str:
    """
    Give the name that the caller states in the header ``X-Mendel-Actor``; ``api`` without the header.

    The header is percent-decoded and cut to 64 printable characters.
    """
    said = unquote(request.headers.get("x-mendel-actor", ""))
    return "".join(letter for letter in said if letter.isprintable()).strip()[:64] or "api"
