"""The registry, composed of its parts."""

from __future__ import annotations

from mendel.durable import Clock, NewId, UnitOfWork
from mendel.registry.artifact_mirror import ArtifactMirror
from mendel.registry.key_store import Keys
from mendel.registry.lifecycle import Lifecycle
from mendel.registry.performance import Performance
from mendel.registry.policy_store import Policies
from mendel.registry.ports import ArtifactStore
from mendel.registry.transactions import ModelLocks, RegistryTransactions
from mendel.registry.versions import Versions


class Registry:
    """
    Models, their versions, and what is served.

    Safe to share between threads; several processes may share one database. Every change is one transaction together
    with its events.

    Args:
        unit: Carries the :class:`RegistryStore`.
        artifacts: Keeps the files of versions.
        clock: The current time.
        new_id: Ids of events, and of registrations that bring no idempotency key.
    """

    def __init__(
        self,
        unit: UnitOfWork,
        artifacts: ArtifactStore,
        clock: Clock,
        new_id: NewId,
    ) -> None:
        transactions, locks = RegistryTransactions(unit, new_id), ModelLocks()
        self.versions = Versions(transactions, artifacts, clock, locks)
        self.lifecycle = Lifecycle(transactions, clock)
        self.performance = Performance(transactions, clock)
        self.policies = Policies(transactions, clock)
        self.keys = Keys(transactions, clock)
        self.artifact_mirror = ArtifactMirror(transactions, artifacts, locks)
