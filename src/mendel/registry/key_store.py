"""Add, rotate, revoke and look up API keys."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from mendel.durable import Clock, Transaction
from mendel.errors import Conflict, InvalidValue, KeyNotFound, Unauthenticated
from mendel.registry.api_keys import ApiKey, KeyDescription, NewKey, descriptions_of, key_digest
from mendel.registry.ports import RegistryStore
from mendel.registry.transactions import RegistryTransactions
from mendel.values import Principal, Scope, require_utc

_LABEL_LENGTH = 200
_LONGEST_OVERLAP = timedelta(days=366)
_LOCAL_REMEDY = "To replace this key, stop the hub, delete the file 'key' in the data directory, and start the hub."


def _random_secret() -> str:
    """A secret of 256 random bits; its prefix lets scanners recognise a leaked key."""
    return f"mendel_{secrets.token_urlsafe(32)}"


class Keys:
    """The store of an installation's API keys."""

    def __init__(self, transactions: RegistryTransactions, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    def add(
        self, scopes: Iterable[str], label: str, *, by: str = "registry", expires_at: datetime | None = None
    ) -> NewKey:
        """
        Make a key; its secret is stored nowhere and cannot be shown again.

        Raises:
            InvalidValue: No scope is given, a scope is unknown, the label is empty or too long, or the end is past.
        """
        now = self._clock()
        if not 0 < len(label.strip()) <= _LABEL_LENGTH or not label.isprintable():
            raise InvalidValue(f"The label of an API key must be a text of 1 to {_LABEL_LENGTH} printable characters.")
        key, made = _new_key(scopes, label, now, expires_at=_future(expires_at, now))
        self._transactions.write(lambda tx: self._add(tx, key, by))
        return made

    def add_local(self, uid: int) -> NewKey:
        """Make the key that the data directory of the user *uid* holds in a file; a former one is revoked."""
        now = self._clock()
        key, made = _new_key((Scope.ADMIN,), "this installation", now, local_uid=uid)

        def work(tx: Transaction) -> None:
            store = tx.store(RegistryStore)
            for former in store.api_keys():
                if former.local_uid is not None and former.revoked_at is None:
                    self._put(tx, "key.revoked", replace(former, revoked_at=now), key.principal.id, now)
            self._add(tx, key, key.principal.id)

        self._transactions.write(work)
        return made

    def mark_local(self, secret: str, uid: int) -> None:
        """Record that *secret* is the one in the key file of the user *uid*, for a key of a former Mendel."""
        digest = key_digest(secret)
        found = self._transactions.read(lambda store: store.key(digest))
        if found is not None and found.local_uid != uid:
            marked = replace(found, local_uid=uid)
            self._transactions.write(lambda tx: tx.store(RegistryStore).put_key(marked))

    def accepts(self, secret: str) -> bool:
        """Whether *secret* is known, and neither expired nor revoked."""
        found = self._transactions.read(lambda store: store.key(key_digest(secret)))
        return found is not None and found.refusal(self._clock()) is None

    def principal(self, secret: str) -> Principal:
        """
        Give the principal whose secret is *secret*.

        Raises:
            Unauthenticated: The secret is unknown, expired or revoked; the message names the key.
        """
        found = self._transactions.read(lambda store: store.key(key_digest(secret)))
        if found is None:
            raise Unauthenticated(
                "The API key is unknown.",
                remedy=(
                    "Send the key as 'Authorization: Bearer <key>'; the file .mendel/key holds the embedded hub's key."
                ),
            )
        if (why := found.refusal(self._clock())) is not None:
            raise Unauthenticated(why, remedy="Use another key, or ask an administrator for a new one.")
        return found.principal

    def all(self) -> tuple[KeyDescription, ...]:
        """Give every key, oldest first; expired and revoked ones included."""
        return descriptions_of(self._transactions.read(lambda store: store.api_keys()), self._clock())

    def labels(self) -> dict[str, str]:
        """Map the principal of every key to the key's label, for people who read events."""
        return self._transactions.read(lambda store: {key.principal.id: key.label for key in store.api_keys()})

    def rotate(
        self,
        key_id: str,
        *,
        overlap: timedelta = timedelta(0),
        expires_at: datetime | None = None,
        by: str = "registry",
    ) -> NewKey:
        """
        Give the key *key_id* a new secret.

        Args:
            overlap: How long the former secrets are accepted besides the new one, at most until the key's new end.
            expires_at: The new end of the key; None keeps the end that it has.

        Raises:
            KeyNotFound: No key has this id.
            Conflict: The key is revoked, is the one of the data directory, or is the last admin key and would expire.
            InvalidValue: The overlap is negative or longer than 366 days, or the end is past.
        """
        now = self._clock()
        if not timedelta(0) <= overlap <= _LONGEST_OVERLAP:
            raise InvalidValue(f"The overlap of a rotation must be between 0 and {_LONGEST_OVERLAP.days} days.")
        expires_at = _future(expires_at, now)

        def work(tx: Transaction) -> NewKey:
            former = _current(tx.store(RegistryStore), key_id)
            end = former.expires_at if expires_at is None else expires_at
            if end is not None and end <= now:
                raise Conflict(
                    f"The API key {key_id} ({former.label}) expired; its new secret would be refused too.",
                    remedy="Give the rotation a new end with --expires.",
                )
            _, made = _new_key(former.scopes, former.label, now)
            key = replace(former, digest=key_digest(made.secret), added_at=now, expires_at=end)
            until = min(moment for moment in (now + overlap, former.expires_at, end) if moment is not None)
            for one in _secrets_of(tx.store(RegistryStore), key_id):
                if one.replaced and one.expires_at is not None and one.expires_at > until:
                    tx.store(RegistryStore).put_key(replace(one, expires_at=until))
            tx.store(RegistryStore).put_key(replace(former, replaced=True, expires_at=until))
            self._put(tx, "key.rotated", key, by, now, former_until=until)
            _require_admin_after(tx.store(RegistryStore), key)
            return NewKey(id=key_id, secret=made.secret)

        return self._transactions.write(work)

    def revoke(self, key_id: str, *, by: str = "registry") -> KeyDescription:
        """
        Refuse the key *key_id* from now on, with all its secrets.

        Raises:
            KeyNotFound: No key has this id.
            Conflict: The key is revoked already, is the one of the data directory, or is the last admin key.
        """
        now = self._clock()

        def work(tx: Transaction) -> KeyDescription:
            store = tx.store(RegistryStore)
            current = _current(store, key_id)
            for one in _secrets_of(store, key_id):
                if one.replaced:
                    store.put_key(replace(one, revoked_at=one.revoked_at or now))
            self._put(tx, "key.revoked", replace(current, revoked_at=now), by, now)
            _require_admin_after(store, current)
            return descriptions_of(_secrets_of(store, key_id), now)[0]

        return self._transactions.write(work)

    def _add(self, tx: Transaction, key: ApiKey, by: str) -> None:
        self._put(tx, "key.added", key, by, key.added_at)

    def _put(self, tx: Transaction, kind: str, key: ApiKey, by: str, now: datetime, **more: datetime | None) -> None:
        """Store *key*, with an event, and in a new revision for servers."""
        store = tx.store(RegistryStore)
        store.put_key(key)
        store.bump_revision()
        told = {"scopes": key.scopes, "label": key.label, "expires_at": key.expires_at, **more}
        tx.append(self._transactions.event(kind, f"key:{key.id}", by, now, **told))


def _new_key(
    scopes: Iterable[str],
    label: str,
    now: datetime,
    *,
    expires_at: datetime | None = None,
    local_uid: int | None = None,
) -> tuple[ApiKey, NewKey]:
    made = NewKey(id=secrets.token_hex(6), secret=_random_secret())
    key = ApiKey(
        id=made.id,
        digest=key_digest(made.secret),
        scopes=tuple(sorted(set(scopes))),
        label=label,
        added_at=now,
        expires_at=expires_at,
        local_uid=local_uid,
    )
    return key, made


def _secrets_of(store: RegistryStore, key_id: str) -> list[ApiKey]:
    return [key for key in store.api_keys() if key.id == key_id]


def _current(store: RegistryStore, key_id: str) -> ApiKey:
    """Find the current secret of the key *key_id*, to be rotated or revoked."""
    found = next((key for key in _secrets_of(store, key_id) if not key.replaced), None)
    if found is None:
        raise KeyNotFound(f"No API key has the id {key_id!r}.", remedy="List the keys with: mendel keys list.")
    if found.revoked_at is not None:
        raise Conflict(f"The API key {key_id} ({found.label}) is revoked already.")
    if found.local_uid is not None:
        raise Conflict(f"The API key {key_id} is the one in the data directory.", remedy=_LOCAL_REMEDY)
    return found


def _require_admin_after(store: RegistryStore, changed: ApiKey) -> None:
    """Check that an admin key without an end remains after *changed* ended; raising undoes the transaction."""
    lasting = any(key.lasts and not key.replaced and Scope.ADMIN in key.scopes for key in store.api_keys())
    if Scope.ADMIN in changed.scopes and not lasting:
        raise Conflict(
            "This is the last API key with the scope 'admin' that does not expire, so it cannot end.",
            remedy="First make another with: mendel keys add --scope admin --label NAME",
        )


def _future(moment: datetime | None, now: datetime) -> datetime | None:
    if moment is None:
        return None
    moment = require_utc(moment)
    if moment <= now:
        raise InvalidValue(f"The end of the API key, {moment:%Y-%m-%d %H:%M:%S} UTC, is past.")
    return moment
