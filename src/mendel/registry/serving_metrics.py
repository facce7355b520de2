"""What the triggers and the health of the serving version are judged by: pure, over rows that were read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mendel.registry.availability import availability_of
from mendel.registry.health import HealthReport, health_of, metrics_of
from mendel.registry.history import ProductionPeriod
from mendel.registry.policies import PolicyDocument
from mendel.registry.rollback_triggers import RollbackCheck, judge, remedy_of, severity_of
from mendel.registry.snapshots import FROM_COUNTERS, ServerState, Snapshot, snapshot_of, total
from mendel.registry.version_records import VersionRecord
from mendel.values import ModelName, VersionCounters, VersionRef, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingWindow:
    """
    Which measurements of the serving version count.

    Attributes:
        counters: The window of its counters: not before it entered production.
        ended_after: Recorded snapshots count whose window ends later.
        recorded_from: Recorded snapshots count that were recorded at or after this; it entered production then.
    """

    ref: VersionRef
    counters: Window
    ended_after: datetime
    recorded_from: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingEvidence:
    """What was measured of the version in production; without a version there are no snapshots."""

    record: VersionRecord | None
    since: datetime | None
    window: Window
    snapshots: tuple[Snapshot, ...]
    servers: tuple[ServerState, ...]
    policy: PolicyDocument


def serving_window(ref: VersionRef, since: datetime | None, window: Window) -> ServingWindow:
    """What counts in *window* for the version *ref*, in production *since* (None: since *window* began)."""
    entered = since or window.start
    clipped = Window(min(max(window.start, entered), window.end), window.end)
    return ServingWindow(ref=ref, counters=clipped, ended_after=window.start, recorded_from=entered)


def in_production_since(tenures: Sequence[ProductionPeriod]) -> datetime | None:
    """When the open stretch of *tenures* (oldest first) began; None: there is none."""
    return tenures[-1].start if tenures and tenures[-1].end is None else None


def policy_window(policy: PolicyDocument, now: datetime, length: timedelta | None = None) -> Window:
    """The window before *now* that the rollback policy looks at, or the last *length*."""
    return Window.before(now, length or policy.rollback.window)


def evidence_of(
    record: VersionRecord,
    window: ServingWindow,
    *,
    counted: Iterable[VersionCounters],
    recorded: tuple[Snapshot, ...],
    servers: tuple[ServerState, ...],
    policy: PolicyDocument,
) -> ServingEvidence:
    """
    Put what was read together; where the counters say something, they stand instead of snapshots made of counters.

    Args:
        counted: By how much the counters of the version grew in ``window.counters``.
        recorded: The recorded snapshots that count.
    """
    live = snapshot_of(record.ref, window.counters, total(record.ref, counted))
    if live.num_requests:
        recorded = (live, *(snapshot for snapshot in recorded if snapshot.source != FROM_COUNTERS))
    return ServingEvidence(
        record=record,
        since=window.recorded_from,
        window=window.counters,
        snapshots=recorded,
        servers=servers,
        policy=policy,
    )


def nothing_serves(policy: PolicyDocument, window: Window, servers: Sequence[ServerState]) -> ServingEvidence:
    """The evidence of a model without a version in production."""
    return ServingEvidence(record=None, since=None, window=window, snapshots=(), servers=tuple(servers), policy=policy)


def rollback_check(model: ModelName, evidence: ServingEvidence) -> RollbackCheck:
    """Hold the evidence against the bounds of the policy."""
    policy = evidence.policy
    if evidence.record is None:
        return RollbackCheck(model=model, version=None, window=evidence.window, policy_hash=policy.hash)
    readings = judge(
        evidence.snapshots,
        policy.rollback,
        expected_p95_ms=evidence.record.expectations.latency_p95_ms,
        silent=availability_of(model, evidence.servers, policy.rollback.silence, evidence.window.end).load_failure,
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


def health_report(model: ModelName, evidence: ServingEvidence, now: datetime) -> HealthReport:
    """How the serving version is; ``unknown`` where there is no data or nothing serves."""
    metrics = metrics_of(evidence.snapshots)
    available = availability_of(model, evidence.servers, evidence.policy.rollback.silence, now)
    outage = available.outage if evidence.record else None
    word, reasons = health_of(metrics, rollback_check(model, evidence), silent=outage)
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
