"""Add, look up and revoke API keys."""

from __future__ import annotations

import secrets
from collections.abc import Iterable

from mendel.durable import Clock, Transaction
from mendel.registry.api_keys import ApiKey, key_digest
from mendel.registry.ports import RegistryStore
from mendel.registry.transactions import RegistryTransactions


def _random_secret() -> str:
    """A secret of 256 random bits; its prefix lets scanners recognise a leaked key."""
    return f"mendel_{secrets.token_urlsafe(32)}"


class Keys:
    """The store of an installation's API keys."""

    def __init__(self, transactions: RegistryTransactions, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    def add(self, scopes: Iterable[str], label: str, *, by: str = "registry") -> str:
        """
        Make a key and return its secret, which is stored nowhere and cannot be shown again.

        Raises:
            InvalidValue: No scope is given, or a scope is unknown.
        """
        now = self._clock()
        secret = _random_secret()
        key = ApiKey(digest=key_digest(secret), scopes=tuple(sorted(set(scopes))), label=label, added_at=now)

        def work(tx: Transaction) -> None:
            store = tx.store(RegistryStore)
            store.add_key(key)
            store.bump_revision()
            data = {"digest": key.digest, "scopes": key.scopes, "label": label}
            tx.append(self._transactions.event("key.added", f"key:{key.digest[:12]}", by, now, **data))

        self._transactions.write(work)
        return secret

    def scopes_of(self, secret: str) -> tuple[str, ...] | None:
        """Give the scopes of the key with *secret*; None if the key is unknown or revoked."""
        found = self._transactions.read(lambda store: store.key(key_digest(secret)))
        return None if found is None else found.scopes

    def all(self) -> tuple[ApiKey, ...]:
        """Every key that is not revoked, oldest first."""
        return self._transactions.read(lambda store: store.api_keys())

    def revoke(self, digest: str, *, by: str = "registry") -> bool:
        """Revoke the key with this SHA-256 (hex); False if no such key exists."""
        now = self._clock()

        def work(tx: Transaction) -> bool:
            store = tx.store(RegistryStore)
            key = store.key(digest)
            if key is None:
                return False
            store.drop_key(digest)
            store.bump_revision()
            data = {"digest": digest, "label": key.label}
            tx.append(self._transactions.event("key.revoked", f"key:{digest[:12]}", by, now, **data))
            return True

        return self._transactions.write(work)
