"""Store the policies of models as versions, after checking the sections that the registry reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mendel.durable import Clock, Transaction
from mendel.errors import Forbidden
from mendel.registry.lookups import current_policy
from mendel.registry.policies import PolicyDocument, checked_body
from mendel.registry.ports import RegistryStore
from mendel.registry.transactions import RegistryTransactions
from mendel.values import ModelName, Scope, to_builtins


class Policies:
    """The policy documents of all models; every change is stored as a new version."""

    def __init__(self, transactions: RegistryTransactions, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    def set(
        self, model: ModelName, body: Mapping[str, Any], *, by: str = "registry", may_approve: bool = True
    ) -> PolicyDocument:
        """
        Store *body* as the newest policy of *model*; an unchanged body makes no new version.

        Args:
            may_approve: Whether *by* may also approve versions; the section ``governance``, which says what approvals a
                version needs, is changed only then.

        Raises:
            InvalidPolicy: A section is unknown, or a section that the registry reads has an unknown key or invalid
                value.
            Forbidden: The section ``governance`` differs, and *by* may not approve.
        """
        now = self._clock()
        checked = to_builtins(checked_body(body))
        draft = PolicyDocument(model=model, body=checked)
        _ = (draft.rollback, draft.governance, draft.promotion, draft.bake)  # raises for invalid values

        def work(tx: Transaction) -> PolicyDocument:
            store = tx.store(RegistryStore)
            current = current_policy(store, model)
            if current.version and current.hash == draft.hash:
                return current
            if not may_approve and draft.governance != current.governance:
                raise Forbidden(
                    f"Changing the section 'governance' of a policy also needs the scope '{Scope.APPROVE}'.",
                    remedy="Use a key with that scope, or leave the section as it is.",
                )
            document = PolicyDocument(model=model, version=current.version + 1, body=checked, at=now, by=by)
            store.add_policy(document)
            data = {"version": document.version, "policy_hash": document.hash, "former_hash": current.hash}
            tx.append(self._transactions.event("policy.set", str(model), by, now, **data))
            return document

        return self._transactions.write(work)

    def of(self, model: ModelName) -> PolicyDocument:
        """Give the newest policy of *model*; without a policy, version 0 with an empty body: all defaults apply."""
        return self._transactions.read(lambda store: current_policy(store, model))

    def history(self, model: ModelName) -> tuple[PolicyDocument, ...]:
        """Give all policies that *model* has had, oldest first."""
        return self._transactions.read(lambda store: store.policies(model))
