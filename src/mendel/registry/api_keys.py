"""API keys: the secret is shown once, and only its SHA-256 is stored."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from mendel.errors import InvalidValue
from mendel.values import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A stored API key; ``digest`` is the SHA-256 (hex) of the secret."""

    digest: str
    scopes: tuple[str, ...]
    label: str
    added_at: datetime

    def __post_init__(self) -> None:
        unknown = sorted(set(self.scopes) - set(Scope))
        if unknown or not self.scopes:
            said = (
                f"Unknown scope: {', '.join(unknown)}."
                if unknown
                else "The API key has no scope; give at least one scope."
            )
            raise InvalidValue(said, remedy=f"The scopes are {', '.join(Scope)}.")


def key_digest(secret: str) -> str:
    """The SHA-256 (hex) of *secret*; a secret of 256 random bits needs no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()
