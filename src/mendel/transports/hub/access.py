"""Who may call which route: every route of the control API declares its scope here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Protocol

from fastapi import Depends, Request

from mendel.errors import Forbidden, Unauthenticated
from mendel.values import Scope


class Keys(Protocol):
    """Looks up what a key may do."""

    def key_scopes(self, secret: str) -> tuple[Scope, ...] | None:
        """The scopes of the key, or None when it is unknown or revoked."""


def presented_key(request: Request) -> str | None:
    """The key of a request: ``Authorization: Bearer`` or ``X-API-Key``."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and secret:
        return secret.strip()
    return request.headers.get("x-api-key")


def requires(scope: Scope) -> Callable[[Request], str]:
    """
    A dependency that lets only keys with *scope* pass (``admin`` passes everywhere) and gives the actor's name.

    Raises:
        Unauthenticated: No key, or an unknown one.
        Forbidden: The key lacks the scope.
    """

    def authorize(request: Request) -> str:
        secret = presented_key(request)
        scopes = request.app.state.keys.key_scopes(secret) if secret else None
        if scopes is None:
            raise Unauthenticated(
                "This needs a key." if secret is None else "This key is unknown.",
                remedy="Send it as 'Authorization: Bearer <key>'; the embedded hub's own is in .mendel/key.",
            )
        if scope not in scopes and Scope.ADMIN not in scopes:
            raise Forbidden(f"This key may not {scope}.", remedy="Ask for a key with that scope: mendel keys add.")
        return request.headers.get("x-mendel-actor", "api")[:64]

    authorize.scope = scope  # type: ignore[attr-defined] - a test reads it off every route
    return authorize


Reader = Annotated[str, Depends(requires(Scope.READ))]
Labeller = Annotated[str, Depends(requires(Scope.LABEL))]
Registrar = Annotated[str, Depends(requires(Scope.REGISTER))]
Deployer = Annotated[str, Depends(requires(Scope.DEPLOY))]
Admin = Annotated[str, Depends(requires(Scope.ADMIN))]
