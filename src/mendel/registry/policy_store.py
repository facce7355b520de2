"""Policies of models: versioned, checked where the registry itself reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mendel.durable import Clock, Transaction
from mendel.registry.lookups import current_policy
from mendel.registry.policies import PolicyDocument, checked_body
from mendel.registry.ports import RegistryStore
from mendel.registry.transactions import RegistryTransactions
from mendel.values import ModelName, to_builtins


class Policies:
    """The policy documents of every model, each change a new version."""

    def __init__(self, transactions: RegistryTransactions, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    def set(self, model: ModelName, body: Mapping[str, Any], *, by: str = "registry") -> PolicyDocument:
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
            tx.append(self._transactions.event("policy.set", str(model), by, now, **data))
            return document

        return self._transactions.write(work)

    def of(self, model: ModelName) -> PolicyDocument:
        """The newest policy of *model*; version 0 and an empty body, so every default, where none was set."""
        return self._transactions.read(lambda store: current_policy(store, model))

    def history(self, model: ModelName) -> tuple[PolicyDocument, ...]:
        """Every policy *model* ever had, oldest first."""
        return self._transactions.read(lambda store: store.policies(model))
