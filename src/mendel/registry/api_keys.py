"""API keys: a secret is shown once, and only its SHA-256 is stored."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from mendel.errors import InvalidValue
from mendel.values import Principal, Scope

KEY_PREFIX = "key:"
"""With this text begins the principal of every API key."""
_NO_SECRET = "0" * 64
"""In place of a SHA-256; no secret has it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """
    A stored secret of an API key; after a rotation, a key has several.

    Attributes:
        id: The id of the key, which stays the same when the key is rotated.
        digest: The SHA-256 (hex) of the secret.
        expires_at: The time from which the secret is refused; None for a secret without an end.
        revoked_at: The time at which a person revoked the secret; None while it is not revoked.
        replaced: True when a rotation gave the key a newer secret.
        local_uid: The user to whom the key file of the data directory belongs, for the key in that file; else None.
    """

    id: str
    digest: str
    scopes: tuple[str, ...]
    label: str
    added_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    replaced: bool = False
    local_uid: int | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.scopes) - set(Scope))
        if unknown or not self.scopes:
            said = (
                f"Unknown scope: {', '.join(unknown)}."
                if unknown
                else "The API key has no scope; give at least one scope."
            )
            raise InvalidValue(said, remedy=f"The scopes are {', '.join(Scope)}.")

    @property
    def principal(self) -> Principal:
        """The principal that the secret proves."""
        if self.local_uid is not None:
            return Principal.local(self.local_uid)
        return Principal(id=f"{KEY_PREFIX}{self.id}", scopes=self.scopes)

    @property
    def lasts(self) -> bool:
        """True when the secret is not revoked and has no end."""
        return self.revoked_at is None and self.expires_at is None

    def refusal(self, now: datetime) -> str | None:
        """Say why the secret is refused at *now*; None when it is accepted."""
        if self.revoked_at is not None:
            return f"The API key {self.id} ({self.label}) was revoked at {self.revoked_at:%Y-%m-%d %H:%M:%S} UTC."
        if self.expires_at is None or now < self.expires_at:
            return None
        what = "This former secret of the API key" if self.replaced else "The API key"
        return f"{what} {self.id} ({self.label}) expired at {self.expires_at:%Y-%m-%d %H:%M:%S} UTC."


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A new or rotated API key; the secret cannot be read again later."""

    id: str
    secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDescription:
    """
    An API key without its secret.

    Attributes:
        state: ``active``, ``expired`` or ``revoked``.
        former_until: The time until which the secret before the last rotation is accepted; None when it is not.
    """

    id: str
    label: str
    scopes: tuple[str, ...]
    state: str
    added_at: datetime
    expires_at: datetime | None = None
    former_until: datetime | None = None


def descriptions_of(keys: Iterable[ApiKey], now: datetime) -> tuple[KeyDescription, ...]:
    """Describe each key among the stored secrets *keys*, in the order in which the keys were first added."""
    found: dict[str, list[ApiKey]] = {}
    for key in keys:
        found.setdefault(key.id, []).append(key)
    return tuple(_description(secrets, now) for secrets in found.values())


def _description(secrets: list[ApiKey], now: datetime) -> KeyDescription:
    current = next((one for one in secrets if not one.replaced), secrets[-1])
    former = [one.expires_at for one in secrets if one.replaced and one.expires_at and one.refusal(now) is None]
    state = "revoked" if current.revoked_at else "active" if current.refusal(now) is None else "expired"
    return KeyDescription(
        id=current.id,
        label=current.label,
        scopes=current.scopes,
        state=state,
        added_at=secrets[0].added_at,
        expires_at=current.expires_at,
        former_until=max(former, default=None),
    )


def hashes_for_servers(keys: Iterable[ApiKey], now: datetime) -> dict[str, tuple[str, ...]]:
    """
    Map the SHA-256 of each accepted secret to its scopes.

    When only refused secrets have the scope ``predict``, an entry that no secret matches has this scope, so that
    prediction routes stay closed to callers without a key.
    """
    kept = tuple(keys)
    found = {key.digest: key.scopes for key in kept if key.refusal(now) is None}
    predicts = any(Scope.PREDICT in key.scopes for key in kept)
    if predicts and not any(Scope.PREDICT in scopes for scopes in found.values()):
        found[_NO_SECRET] = (Scope.PREDICT.value,)
    return found


def key_digest(secret: str) -> str:
    """The SHA-256 (hex) of *secret*; a secret of 256 random bits needs no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()
