"""The scopes of API keys, and the principal that a credential proves."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self


class Scope(StrEnum):
    """A right that an API key can hold; every route and every ZMQ message type declares the scope that it needs."""

    PREDICT = "predict"
    READ = "read"
    LABEL = "label"
    SERVE = "serve"
    REGISTER = "register"
    APPROVE = "approve"
    DEPLOY = "deploy"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """
    The caller that a credential proves; events record its ``id``.

    Attributes:
        id: ``key:<id>`` for an API key, or ``local:<uid>`` for a user who can read the key file of the data directory.
        scopes: The rights of the caller; ``admin`` includes all others.
    """

    id: str
    scopes: tuple[str, ...]

    @classmethod
    def local(cls, uid: int) -> Self:
        """Make the principal of the user *uid*, who has every right because files give it."""
        return cls(id=f"local:{uid}", scopes=(Scope.ADMIN,))

    @property
    def is_local(self) -> bool:
        """True for a user of the data directory, False for an API key."""
        return self.id.startswith("local:")

    def may(self, scope: Scope) -> bool:
        """Tell whether the caller has *scope* or ``admin``."""
        return scope in self.scopes or Scope.ADMIN in self.scopes
