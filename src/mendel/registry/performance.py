"""Measure the performance of versions from server reports and snapshots; nothing here changes a stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from mendel.durable import Clock, Transaction
from mendel.registry.availability import PresenceOf
from mendel.registry.health import HealthReport
from mendel.registry.lookups import current_policy, require_model, require_version
from mendel.registry.ports import RegistryStore
from mendel.registry.rollback_triggers import RollbackCheck
from mendel.registry.serving_metrics import (
    MeasuredPerformance,
    ServingEvidence,
    evidence_of,
    health_report,
    in_production_since,
    measured_performance,
    nothing_serves,
    policy_window,
    rollback_check,
    serving_window,
)
from mendel.registry.snapshot_history import StudyReadings, merge_old_snapshots, minute_snapshots
from mendel.registry.snapshots import ServerState, Snapshot, snapshot_of, total
from mendel.registry.stage_transitions import deployment_of
from mendel.registry.transactions import RegistryTransactions
from mendel.registry.version_faults import VersionFault, version_faults
from mendel.values import ModelConvergence, ModelName, ServerReport, VersionRef, Window
from mendel.values.parity import ParityReport, ParityStatus


class Performance:
    """
    Stores server reports and snapshots, and checks the rollback triggers and the health of production versions.

    Args:
        presence: Decides whether a server reports; for every statement about servers.
    """

    def __init__(self, transactions: RegistryTransactions, clock: Clock, presence: PresenceOf) -> None:
        self._transactions = transactions
        self._clock = clock
        self.presence = presence

    def record_server_report(self, report: ServerReport) -> None:
        """Store a server's report; a repeated report (same server, epoch and seq) is not counted again."""
        now = self._clock()

        def work(tx: Transaction) -> None:
            store = tx.store(RegistryStore)
            store.add_report(report, received_at=now)
            for line in report.convergence:
                if line.difference_id and line.failed_version is not None:
                    self._record_difference(tx, VersionRef(line.model, line.failed_version), line, report.server)

        self._transactions.write(work)

    def _record_difference(self, tx: Transaction, ref: VersionRef, line: ModelConvergence, server: str) -> None:
        """Keep what a server reported, because a person may accept the difference after the version was taken back."""
        store = tx.store(RegistryStore)
        record = store.version(ref)
        if record is None:
            return
        known = () if record.served_parity is None else record.served_parity.difference_id.split()
        ids = dict.fromkeys((*known, *line.difference_id.split()))
        if len(ids) == len(known):
            return
        found = ParityReport(
            status=ParityStatus.DIFFERS,
            reason=line.error or "",
            detail=line.detail or "",
            difference_id=" ".join(ids),
        )
        store.replace_version(replace(record, served_parity=found))
        tx.append(
            self._transactions.version_event(
                "model.difference_served", record, f"server:{server}", self._clock(), difference=found.reason
            )
        )

    def servers(self) -> tuple[ServerState, ...]:
        """Give the newest report of every server, by server name."""
        return self._transactions.read(lambda store: store.servers())

    def faults(self, ref: VersionRef) -> tuple[VersionFault, ...]:
        """
        Give why servers could not load *ref*, and how its answers differ from those of the fitted model.

        Raises:
            VersionNotFound: The version does not exist.
        """
        return self._transactions.read(lambda store: version_faults(require_version(store, ref), store.servers()))

    def prune_reports(self, before: datetime) -> None:
        """Delete the counters that are not needed for windows starting at or after *before*."""
        self._transactions.write(lambda tx: tx.store(RegistryStore).prune_reports(before))

    def snapshot(self, ref: VersionRef, window: Window) -> Snapshot:
        """
        Measure the performance of *ref* in *window* from the servers' counters.

        Raises:
            VersionNotFound: The version does not exist.
        """

        def work(store: RegistryStore) -> Snapshot:
            require_version(store, ref)
            return snapshot_of(ref, window, total(ref, store.growth(ref, window)))

        return self._transactions.read(work)

    def snapshots(self, ref: VersionRef, *, ended_after: datetime) -> tuple[Snapshot, ...]:
        """
        Give the recorded snapshots whose window ends after *ended_after*, sorted by that end.

        Raises:
            VersionNotFound: The version does not exist.
        """

        def work(store: RegistryStore) -> tuple[Snapshot, ...]:
            require_version(store, ref)
            return store.snapshots(ref, ended_after=ended_after)

        return self._transactions.read(work)

    def record_snapshot(self, snapshot: Snapshot, *, by: str = "registry") -> RollbackCheck:
        """
        Store a snapshot, then check the model's rollback triggers now.

        An earlier snapshot of the same version, window and source is replaced.

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
            return rollback_check(snapshot.ref.model, _evidence(store, snapshot.ref.model, None, now), self.presence)

        return self._transactions.write(work)

    def record_minute(self, minute: Window, studies: Mapping[VersionRef, StudyReadings]) -> tuple[Snapshot, ...]:
        """
        Store a snapshot of each version that answered or shadowed requests in *minute*, from the servers' counters.

        These snapshots follow from counters, and are merged with age; they therefore write no events.

        Args:
            studies: The last measurements of drift and quality, by version.
        """
        made = self._transactions.read(lambda store: tuple(minute_snapshots(store, minute, studies)))
        now = self._clock()

        def keep(tx: Transaction) -> None:
            for snapshot in made:
                tx.store(RegistryStore).put_snapshot(snapshot, recorded_at=now)

        if made:
            self._transactions.write(keep)
        return made

    def merge_old_snapshots(self, now: datetime) -> int:
        """Merge some old minutes into hours, and hours into days; gives the number of replaced snapshots."""
        return self._transactions.write(lambda tx: merge_old_snapshots(tx.store(RegistryStore), now))

    def check_rollback_triggers(
        self, model: ModelName, *, window: timedelta | None = None, now: datetime | None = None
    ) -> RollbackCheck:
        """
        Compare the performance of the production version with the model's rollback policy; changes nothing.

        Only measurements since the version last entered production count.

        Args:
            window: The length of the window; None uses the policy's.
            now: The end of the window; None uses the current time.

        Raises:
            ModelNotFound: The model has no version.
        """
        moment = now or self._clock()

        def work(store: RegistryStore) -> RollbackCheck:
            require_model(store, model)
            return rollback_check(model, _evidence(store, model, window, moment), self.presence)

        return self._transactions.read(work)

    def measure(self, model: ModelName, *, now: datetime) -> MeasuredPerformance | None:
        """
        Give the measurements that :meth:`check_rollback_triggers` judges; None without a version in production.

        Raises:
            ModelNotFound: The model has no version.
        """

        def work(store: RegistryStore) -> MeasuredPerformance | None:
            require_model(store, model)
            return measured_performance(model, _evidence(store, model, None, now), self.presence)

        return self._transactions.read(work)

    def health(self, model: ModelName, *, now: datetime | None = None) -> HealthReport:
        """
        Give the health of the production version; ``unknown`` without data or without such a version.

        Raises:
            ModelNotFound: The model has no version.
        """
        moment = now or self._clock()

        def work(store: RegistryStore) -> HealthReport:
            require_model(store, model)
            return health_report(model, _evidence(store, model, None, moment), moment, self.presence)

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
