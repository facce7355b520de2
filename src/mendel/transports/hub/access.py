"""Who may call an operation over HTTP: the key that a request shows, and the name that its caller gives."""

from __future__ import annotations

from typing import Protocol
from urllib.parse import unquote

from starlette.requests import Request

from mendel.errors import Forbidden, Unauthenticated
from mendel.values import Scope


class Keys(Protocol):
    """Looks up what a key may do."""

    def scopes_of(self, secret: str) -> tuple[str, ...] | None:
        """The scopes of the key, or None when it is unknown or revoked."""


def presented_key(request: Request) -> str | None:
    """The key of a request: ``Authorization: Bearer`` or ``X-API-Key``."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and secret:
        return secret.strip()
    return request.headers.get("x-api-key")


def authorise(keys: Keys, request: Request, scope: Scope | None) -> None:
    """
    Let *request* pass if its key has *scope* or ``admin``; without a scope, anybody passes.

    Raises:
        Unauthenticated: The request has no key, or an unknown one.
        Forbidden: The key lacks the scope.
    """
    if scope is None:
        return
    secret = presented_key(request)
    scopes = keys.scopes_of(secret) if secret else None
    if scopes is None:
        raise Unauthenticated(
            "This needs a key." if secret is None else "This key is unknown.",
            remedy="Send it as 'Authorization: Bearer <key>'; the embedded hub's own is in .mendel/key.",
        )
    if scope not in scopes and Scope.ADMIN not in scopes:
        raise Forbidden(f"This key may not {scope}.", remedy="Ask for a key with that scope.")


def actor(request: Request) -> str:
    """Who the caller says it is, percent-encoded where it is not ASCII."""
    said = unquote(request.headers.get("x-mendel-actor", ""))
    return "".join(letter for letter in said if letter.isprintable()).strip()[:64] or "api"
