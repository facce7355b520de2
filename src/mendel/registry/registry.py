"""The registry, composed of versions, lifecycle, side routes, performance and policies."""

from __future__ import annotations

from mendel.durable import Clock, NewId, UnitOfWork
from mendel.registry.artifact_mirror import ArtifactMirror
from mendel.registry.artifact_mirror_repair import MirrorRepair
from mendel.registry.availability import PresenceOf, presence_at
from mendel.registry.foreign_versions import ForeignVersions
from mendel.registry.key_store import Keys
from mendel.registry.lifecycle import Lifecycle
from mendel.registry.parity_records import ParityRecords
from mendel.registry.performance import Performance
from mendel.registry.policy_store import Policies
from mendel.registry.ports import ArtifactStore
from mendel.registry.side_routes import SideRoutes
from mendel.registry.timeline import Timeline
from mendel.registry.transactions import ModelLocks, RegistryTransactions
from mendel.registry.versions import Versions
from mendel.registry.waiting_promotions import WaitingPromotions


class Registry:
    """
    The registry of models, their versions, and the versions that are served.

    Threads may share a registry, and processes may share its database. Every change is one transaction together with
    its events.

    Args:
        unit: Gives transactions with a :class:`RegistryStore`.
        artifacts: Stores the files of versions.
        clock: Gives the current time.
        new_id: Makes ids for events, and for registrations without an idempotency key.
        builds: Whether servers may make the environments of versions (``serving.environments``).
    """

    def __init__(
        self,
        unit: UnitOfWork,
        artifacts: ArtifactStore,
        clock: Clock,
        new_id: NewId,
        presence: PresenceOf = presence_at,
        *,
        builds: bool = False,
    ) -> None:
        transactions, locks = RegistryTransactions(unit, new_id), ModelLocks()
        self.versions = Versions(transactions, artifacts, clock, locks)
        self.lifecycle = Lifecycle(transactions, clock, builds=builds)
        self.side_routes = SideRoutes(transactions, clock, builds=builds)
        self.promotions = WaitingPromotions(transactions, clock, self.lifecycle)
        self.foreign = ForeignVersions(transactions, artifacts, self.versions)
        self.parity = ParityRecords(transactions, clock)
        self.performance = Performance(transactions, clock, presence)
        self.policies = Policies(transactions, clock)
        self.keys = Keys(transactions, clock)
        self.timeline = Timeline(unit, clock, new_id)
        self.artifact_mirror = ArtifactMirror(transactions, artifacts, locks)
        self.mirror_repair = MirrorRepair(transactions, artifacts, self.artifact_mirror)
