"""What servers report and others push, and what follows from it; nothing here remedies anything."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import NamedTuple

from mendel.durable import Clock, Transaction
from mendel.registry.apply_plan import deployment_of
from mendel.registry.health import Fleet, HealthReport, fleet_of, health_of, metrics_of
from mendel.registry.lookups import current_policy, described, require_model, require_version
from mendel.registry.policies import PolicyDocument
from mendel.registry.ports import RegistryStore
from mendel.registry.rollback_triggers import RollbackCheck, judge, remedy_of, severity_of
from mendel.registry.server_availability import load_failure, silence
from mendel.registry.snapshots import FROM_COUNTERS, ServerState, Snapshot, snapshot_of, total
from mendel.registry.transactions import RegistryTransactions
from mendel.registry.version_records import VersionRecord
from mendel.values import ModelName, ServerReport, VersionRef, Window, to_builtins


class _Evidence(NamedTuple):
    record: VersionRecord | None
    since: datetime | None
    window: Window
    snapshots: tuple[Snapshot, ...]
    servers: tuple[ServerState, ...]
    policy: PolicyDocument


class Performance:
    """What servers report and others push about versions, kept and held against policies."""

    def __init__(self, transactions: RegistryTransactions, clock: Clock) -> None:
        self._transactions = transactions
        self._clock = clock

    def record_server_report(self, report: ServerReport) -> None:
        """Keep what a server reports, idempotent by (server, epoch, seq); a repeated one counts nothing twice."""
        now = self._clock()
        self._transactions.write(lambda tx: tx.store(RegistryStore).add_report(report, received_at=now))

    def servers(self) -> tuple[ServerState, ...]:
        """Every server as it last reported, by name."""
        return self._transactions.read(lambda store: store.servers())

    def prune_reports(self, before: datetime) -> None:
        """Forget counters that no window starting at or after *before* needs."""
        self._transactions.write(lambda tx: tx.store(RegistryStore).prune_reports(before))

    def snapshot(self, ref: VersionRef, window: Window) -> Snapshot:
        """
        The performance of *ref* in *window* from the servers' counters.

        Raises:
            VersionNotFound: There is no such version.
        """

        def work(store: RegistryStore) -> Snapshot:
            require_version(store, ref)
            return _counted(store, ref, window)

        return self._transactions.read(work)

    def snapshots(self, ref: VersionRef, *, ended_after: datetime) -> tuple[Snapshot, ...]:
        """
        Recorded snapshots whose window ends after *ended_after*, by end.

        Raises:
            VersionNotFound: There is no such version.
        """

        def work(store: RegistryStore) -> tuple[Snapshot, ...]:
            require_version(store, ref)
            return store.snapshots(ref, ended_after=ended_after)

        return self._transactions.read(work)

    def record_snapshot(self, snapshot: Snapshot, *, by: str = "registry") -> RollbackCheck:
        """
        Keep a snapshot, and say what the triggers make of the serving version now.

        The same version, window and source again replaces it.

        Raises:
            VersionNotFound: There is no such version; nothing is kept.
        """
        now = self._clock()

        def work(tx: Transaction) -> RollbackCheck:
            store = tx.store(RegistryStore)
            record = require_version(store, snapshot.ref)
            store.put_snapshot(snapshot, recorded_at=now)
            data = {**described(record, now), "snapshot": to_builtins(snapshot)}
            tx.append(self._transactions.event("model.performance_snapshot", str(snapshot.ref), by, now, **data))
            return _check(snapshot.ref.model, _evidence(store, snapshot.ref.model, None, now))

        return self._transactions.write(work)

    def check_rollback_triggers(
        self, model: ModelName, *, window: timedelta | None = None, now: datetime | None = None
    ) -> RollbackCheck:
        """
        Hold the version that serves against the model's rollback policy; changes nothing.

        Only what was measured since it last entered production counts.

        Args:
            window: How far back; None takes the policy's.
            now: The end of the window; None takes the clock's.

        Raises:
            ModelNotFound: It has no version.
        """
        moment = now or self._clock()

        def work(store: RegistryStore) -> RollbackCheck:
            require_model(store, model)
            return _check(model, _evidence(store, model, window, moment))

        return self._transactions.read(work)

    def health(self, model: ModelName, *, window: timedelta | None = None, now: datetime | None = None) -> HealthReport:
        """
        How the version that serves is; ``unknown`` where there is no data or nothing serves.

        Raises:
            ModelNotFound: It has no version.
        """
        moment = now or self._clock()

        def work(store: RegistryStore) -> HealthReport:
            require_model(store, model)
            return _health(store, model, window, moment)

        return self._transactions.read(work)

    def fleet(self, window: timedelta | None = None, *, now: datetime | None = None) -> Fleet:
        """Every model counted once, and what is not healthy."""
        moment = now or self._clock()
        return self._transactions.read(
            lambda store: fleet_of([_health(store, model, window, moment) for model in store.models()])
        )


def _counted(store: RegistryStore, ref: VersionRef, window: Window) -> Snapshot:
    return snapshot_of(ref, window, total(ref, store.growth(ref, window)))


def _evidence(store: RegistryStore, model: ModelName, length: timedelta | None, now: datetime) -> _Evidence:
    policy = current_policy(store, model)
    window = Window.before(now, length or policy.rollback.window)
    number = deployment_of(store, model).production
    if number is None:
        return _Evidence(None, None, window, (), store.servers(), policy)
    record = require_version(store, VersionRef(model, number))
    tenures = store.tenures(model)
    since = tenures[-1].start if tenures and tenures[-1].end is None else window.start
    clipped = Window(min(max(window.start, since), now), now)
    live = _counted(store, record.ref, clipped)
    recorded = store.snapshots(record.ref, ended_after=window.start, recorded_from=since)
    if live.num_requests:
        recorded = (live, *(snapshot for snapshot in recorded if snapshot.source != FROM_COUNTERS))
    return _Evidence(record, since, clipped, recorded, store.servers(), policy)


def _check(model: ModelName, evidence: _Evidence) -> RollbackCheck:
    policy = evidence.policy
    if evidence.record is None:
        return RollbackCheck(model=model, version=None, window=evidence.window, policy_hash=policy.hash)
    readings = judge(
        evidence.snapshots,
        policy.rollback,
        expected_p95_ms=evidence.record.expectations.latency_p95_ms,
        silent=load_failure(model, evidence.servers, policy.rollback.silence, now=evidence.window.end),
    )
    held = tuple(reading.reason for reading in readings if reading.holds)
    return RollbackCheck(
        model=model,
        version=evidence.record.number,
        window=evidence.window,
        should_roll_back=bool(held),
        reasons=held,
        evidence=readings,
        severity=severity_of(readings),
        remedy=remedy_of(readings, policy.rollback.profile),
        policy_hash=policy.hash,
    )


def _health(store: RegistryStore, model: ModelName, length: timedelta | None, now: datetime) -> HealthReport:
    evidence = _evidence(store, model, length, now)
    metrics = metrics_of(evidence.snapshots)
    absent = silence(model, evidence.servers, evidence.policy.rollback.silence, now=now) if evidence.record else None
    word, reasons = health_of(metrics, _check(model, evidence), silent=absent)
    record = evidence.record
    return HealthReport(
        model_id=str(model) if record is None else record.model_id,
        model=model,
        version=None if record is None else record.number,
        stage=None if record is None else record.stage,
        deployed_at=evidence.since,
        health_status=word,
        metrics=metrics,
        reasons=reasons if record is not None else ("No version is in production",),
    )
