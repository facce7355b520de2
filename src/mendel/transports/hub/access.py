"""Who may call which route: every route of the control API declares its scope here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol
from urllib.parse import unquote

from fastapi import Depends, Request

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


@dataclass(frozen=True, slots=True)
class Requires:
    """
    A dependency that lets only keys with *scope* pass (``admin`` passes everywhere) and gives the actor's name.

    Raises:
        Unauthenticated: No key, or an unknown one.
        Forbidden: The key lacks the scope.
    """

    scope: Scope

    def __call__(self, request: Request) -> str:
        """Authorise *request*."""
        keys: Keys = request.app.state.keys
        secret = presented_key(request)
        scopes = keys.scopes_of(secret) if secret else None
        if scopes is None:
            raise Unauthenticated(
                "This needs a key." if secret is None else "This key is unknown.",
                remedy="Send it as 'Authorization: Bearer <key>'; the embedded hub's own is in .mendel/key.",
            )
        if self.scope not in scopes and Scope.ADMIN not in scopes:
            raise Forbidden(f"This key may not {self.scope}.", remedy="Ask for a key with that scope.")
        return _actor(request)


def _actor(request: Request) -> str:
    """Who the caller says it is, percent-encoded where it is not ASCII."""
    said = unquote(request.headers.get("x-mendel-actor", ""))
    return "".join(letter for letter in said if letter.isprintable()).strip()[:64] or "api"


Reader = Annotated[str, Depends(Requires(Scope.READ))]
Labeller = Annotated[str, Depends(Requires(Scope.LABEL))]
Registrar = Annotated[str, Depends(Requires(Scope.REGISTER))]
Deployer = Annotated[str, Depends(Requires(Scope.DEPLOY))]
Admin = Annotated[str, Depends(Requires(Scope.ADMIN))]
