"""Policies and keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mendel.durable import Transaction
from mendel.registry.api_keys import ApiKey, key_digest
from mendel.registry.context import RegistryContext, current_policy
from mendel.registry.policies import PolicyDocument, checked_body
from mendel.registry.ports import RegistryStore
from mendel.values import ModelName, to_builtins


class Configuring(RegistryContext):
    """The part of the registry that keeps policies and keys."""

    def set_policy(self, model: ModelName, body: Mapping[str, Any], *, by: str = "registry") -> PolicyDocument:
        """
        Make *body* the newest policy of *model*; the same body again makes no new version.

        Raises:
            InvalidPolicy: An unknown section or key, or a value that does not fit, in what the registry itself reads.
        """
        now = self._clock()
        checked = to_builtins(checked_body(body))
        draft = PolicyDocument(model=model, body=checked)
        _ = (draft.rollback, draft.governance, draft.bake)  # each refuses what it cannot read

        def work(tx: Transaction) -> PolicyDocument:
            store = tx.store(RegistryStore)
            current = current_policy(store, model)
            if current.version and current.hash == draft.hash:
                return current
            document = PolicyDocument(model=model, version=current.version + 1, body=checked, at=now, by=by)
            store.add_policy(document)
            data = {"version": document.version, "policy_hash": document.hash, "former_hash": current.hash}
            tx.append(self._event("policy.set", str(model), by, now, **data))
            return document

        return self._unit.write(work)

    def policy(self, model: ModelName) -> PolicyDocument:
        """The newest policy of *model*; version 0 and an empty body, so every default, where none was set."""
        return self._read(lambda store: current_policy(store, model))

    def policies(self, model: ModelName) -> tuple[PolicyDocument, ...]:
        """Every policy *model* ever had, oldest first."""
        return self._read(lambda store: store.policies(model))

    def add_key(self, scopes: Iterable[str], label: str, *, by: str = "registry") -> str:
        """
        Make a key and give its secret, which is shown this once and kept nowhere.

        Raises:
            InvalidValue: No scope, or an unknown one.
        """
        now = self._clock()
        secret = self._new_secret()
        key = ApiKey(digest=key_digest(secret), scopes=tuple(sorted(set(scopes))), label=label, added_at=now)

        def work(tx: Transaction) -> None:
            store = tx.store(RegistryStore)
            store.add_key(key)
            store.bump_revision()
            data = {"digest": key.digest, "scopes": key.scopes, "label": label}
            tx.append(self._event("key.added", f"key:{key.digest[:12]}", by, now, **data))

        self._unit.write(work)
        return secret

    def key_scopes(self, secret: str) -> tuple[str, ...] | None:
        """What *secret* may do; None: it is no key, or was revoked."""
        found = self._read(lambda store: store.key(key_digest(secret)))
        return None if found is None else found.scopes

    def keys(self) -> tuple[ApiKey, ...]:
        """Every key that holds, oldest first."""
        return self._read(lambda store: store.api_keys())

    def revoke_key(self, digest: str, *, by: str = "registry") -> bool:
        """Make the key of that SHA-256 (hex) worthless; False: there was none."""
        now = self._clock()

        def work(tx: Transaction) -> bool:
            store = tx.store(RegistryStore)
            key = store.key(digest)
            if key is None:
                return False
            store.drop_key(digest)
            store.bump_revision()
            data = {"digest": digest, "label": key.label}
            tx.append(self._event("key.revoked", f"key:{digest[:12]}", by, now, **data))
            return True

        return self._unit.write(work)
