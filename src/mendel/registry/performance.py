"""Performance of versions: server reports, snapshots, rollback triggers and health; nothing here changes a stage."""

from __future__ import annotations

from datetime import datetime, timedelta

from mendel.durable import Clock, Transaction
from mendel.registry.health import HealthReport
from mendel.registry.lookups import current_policy, require_model, require_version
from mendel.registry.ports import RegistryStore
from mendel.registry.rollback_triggers import RollbackCheck
from mendel.registry.serving_metrics import (
    ServingEvidence,
    evidence_of,
    health_report,
    in_production_since,
    nothing_serves,
    policy_window,
    rollback_check,
    serving_window,
)
from mendel.registry.snapshots import ServerState, Snapshot, snapshot_of, total
from mendel.registry.stage_transitions import deployment_of
from mendel.registry.transactions import RegistryTransactions
from mendel.values import ModelName, ServerReport, VersionRef, Window


class Performance:
    """Stores server reports and pushed snapshots, and compares them with rollback policies."""

    def __init__(self, transactions: RegistryTransactions, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    def record_server_report(self, report: ServerReport) -> None:
        """Store a server's report, idempotent by (server, epoch, seq); a repeated report counts nothing twice."""
        now = self._clock()
        self._transactions.write(lambda tx: tx.store(RegistryStore).add_report(report, received_at=now))

    def servers(self) -> tuple[ServerState, ...]:
        """The newest report of every server, by server name."""
        return self._transactions.read(lambda store: store.servers())

    def prune_reports(self, before: datetime) -> None:
        """Delete counters that no window starting at or after *before* needs."""
        self._transactions.write(lambda tx: tx.store(RegistryStore).prune_reports(before))

    def snapshot(self, ref: VersionRef, window: Window) -> Snapshot:
        """
        The performance of *ref* in *window* from the servers' counters.

        Raises:
            VersionNotFound: The version does not exist.
        """

        def work(store: RegistryStore) -> Snapshot:
            require_version(store, ref)
            return snapshot_of(ref, window, total(ref, store.growth(ref, window)))

        return self._transactions.read(work)

    def snapshots(self, ref: VersionRef, *, ended_after: datetime) -> tuple[Snapshot, ...]:
        """
        Recorded snapshots whose window ends after *ended_after*, by end.

        Raises:
            VersionNotFound: The version does not exist.
        """

        def work(store: RegistryStore) -> tuple[Snapshot, ...]:
            require_version(store, ref)
            return store.snapshots(ref, ended_after=ended_after)

        return self._transactions.read(work)

    def record_snapshot(self, snapshot: Snapshot, *, by: str = "registry") -> RollbackCheck:
        """
        Store a snapshot, and check the rollback triggers of the serving version now.

        A snapshot of the same version, window and source is replaced.

        Raises:
            VersionNotFound: The version does not exist; nothing is stored.
        """
        now = self._clock()

        def work(tx: Transaction) -> RollbackCheck:
            store = tx.store(RegistryStore)
            record = require_version(store, snapshot.ref)
            store.put_snapshot(snapshot, recorded_at=now)
            tx.append(
                self._transactions.version_event("model.performance_snapshot", record, by, now, snapshot=snapshot)
            )
            return rollback_check(snapshot.ref.model, _evidence(store, snapshot.ref.model, None, now))

        return self._transactions.write(work)

    def check_rollback_triggers(
        self, model: ModelName, *, window: timedelta | None = None, now: datetime | None = None
    ) -> RollbackCheck:
        """
        Compare the serving version with the model's rollback policy; changes nothing.

        Only measurements since the version last entered production count.

        Args:
            window: Length of the window; None takes the policy's.
            now: End of the window; None takes the clock's time.

        Raises:
            ModelNotFound: It has no version.
        """
        moment = now or self._clock()

        def work(store: RegistryStore) -> RollbackCheck:
            require_model(store, model)
            return rollback_check(model, _evidence(store, model, window, moment))

        return self._transactions.read(work)

    def health(self, model: ModelName, *, now: datetime | None = None) -> HealthReport:
        """
        Health of the serving version; ``unknown`` without data or without a serving version.

        Raises:
            ModelNotFound: It has no version.
        """
        moment = now or self._clock()

        def work(store: RegistryStore) -> HealthReport:
            require_model(store, model)
            return health_report(model, _evidence(store, model, None, moment), moment)

        return self._transactions.read(work)


def _evidence(store: RegistryStore, model: ModelName, length: timedelta | None, now: datetime) -> ServingEvidence:
    policy = current_policy(store, model)
    window = policy_window(policy, now, length)
    number = deployment_of(store, model).production
    if number is None:
        return nothing_serves(policy, window, store.servers())
    record = require_version(store, VersionRef(model, number))
    counts = serving_window(record.ref, in_production_since(store.tenures(model)), window)
    return evidence_of(
        record,
        counts,
        counted=store.growth(record.ref, counts.counters),
        recorded=store.snapshots(record.ref, ended_after=counts.ended_after, recorded_from=counts.recorded_from),
        servers=store.servers(),
        policy=policy,
    )
