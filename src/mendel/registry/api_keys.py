"""API keys: the secret is shown once, its SHA-256 is kept."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from mendel.errors import InvalidValue
from mendel.values import Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is kept; ``digest`` is the SHA-256 (hex) of the secret."""

    digest: str
    scopes: tuple[str, ...]
    label: str
    added_at: datetime

    def __post_init__(self) -> None:
        unknown = sorted(set(self.scopes) - set(Scope))
        if unknown or not self.scopes:
            said = f"{', '.join(unknown)} is no scope." if unknown else "A key without scopes opens nothing."
            raise InvalidValue(said, remedy=f"Scopes are {', '.join(Scope)}.")


def key_digest(secret: str) -> str:
    """The SHA-256 (hex) of *secret*: 256 bits of chance need no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()
