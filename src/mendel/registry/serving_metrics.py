"""Select the measurements of the production version that decide about rollback triggers and health."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mendel.registry.availability import PresenceOf, availability_of, presence_at
from mendel.registry.health import HealthReport, health_of, metrics_of
from mendel.registry.history import ProductionPeriod
from mendel.registry.policies import PolicyDocument
from mendel.registry.rollback_triggers import RollbackCheck, judge, remedy_of, severity_of
from mendel.registry.snapshot_history import only_study
from mendel.registry.snapshots import ServerState, Snapshot, snapshot_of, total
from mendel.registry.version_records import VersionRecord
from mendel.values import ModelName, VersionCounters, VersionRef, Window


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingWindow:
    """
    The rule of which measurements of the production version count.

    Attributes:
        counters: The window for counters, clipped to the time in production.
        ended_after: The start of the window asked for; recorded snapshots are cut to the time from here.
        recorded_from: A recorded snapshot counts only if it was recorded at or after this time, when the version
            entered production.
    """

    ref: VersionRef
    counters: Window
    ended_after: datetime
    recorded_from: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingEvidence:
    """
    The measurements of the version in production; without such a version, ``record`` is None and there are no
    snapshots.
    """

    record: VersionRecord | None
    since: datetime | None
    window: Window
    snapshots: tuple[Snapshot, ...]
    servers: tuple[ServerState, ...]
    policy: PolicyDocument


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPerformance:
    """
    The measurements of the version in production that a policy judges; they depend on no bound of the policy.

    Attributes:
        expected_p95_ms: The expected p95 latency that was registered with the version, if any.
        failure: Why the version answers nowhere; None if it answers or if this is unknown.
    """

    version: int
    window: Window
    snapshots: tuple[Snapshot, ...]
    expected_p95_ms: float | None = None
    failure: str | None = None


def serving_window(ref: VersionRef, since: datetime | None, window: Window) -> ServingWindow:
    """Make the rule for *window* and the version *ref*, in production *since* (None: since the start of *window*)."""
    entered = since or window.start
    clipped = Window(min(max(window.start, entered), window.end), window.end)
    return ServingWindow(ref=ref, counters=clipped, ended_after=window.start, recorded_from=entered)


def in_production_since(tenures: Sequence[ProductionPeriod]) -> datetime | None:
    """Give when the current production period of *tenures* (oldest first) began; None if the last period has ended."""
    return tenures[-1].start if tenures and tenures[-1].end is None else None


def policy_window(policy: PolicyDocument, now: datetime, length: timedelta | None = None) -> Window:
    """Make the window before *now* of the given *length*, or of the rollback policy's length if None."""
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
    Combine the measurements; recorded snapshots are cut to the window that was asked for, and if the counters show
    requests, they replace what recorded snapshots have from counters.

    Args:
        counted: The growth of the version's counters in ``window.counters``.
        recorded: The recorded snapshots that count by the rule *window*.
    """
    live = snapshot_of(record.ref, window.counters, total(record.ref, counted))
    asked = Window(min(window.ended_after, window.counters.end), window.counters.end)
    cut = tuple(part for one in recorded if (part := one.within(asked)) is not None)
    if live.num_requests:
        cut = (live, *only_study(cut))
    return ServingEvidence(
        record=record,
        since=window.recorded_from,
        window=window.counters,
        snapshots=cut,
        servers=servers,
        policy=policy,
    )


def nothing_serves(policy: PolicyDocument, window: Window, servers: Sequence[ServerState]) -> ServingEvidence:
    """Make the evidence for a model without a version in production."""
    return ServingEvidence(record=None, since=None, window=window, snapshots=(), servers=tuple(servers), policy=policy)


def measured_performance(
    model: ModelName, evidence: ServingEvidence, presence: PresenceOf = presence_at
) -> MeasuredPerformance | None:
    """Give the measurements in *evidence*; None without a version in production."""
    if evidence.record is None:
        return None
    silence, end = evidence.policy.rollback.silence, evidence.window.end
    available = availability_of(model, evidence.servers, silence, end, presence)
    return MeasuredPerformance(
        version=evidence.record.number,
        window=evidence.window,
        snapshots=evidence.snapshots,
        expected_p95_ms=evidence.record.expectations.latency_p95_ms,
        failure=available.failure_of(evidence.record.number),
    )


def judge_performance(model: ModelName, measured: MeasuredPerformance, policy: PolicyDocument) -> RollbackCheck:
    """Compare the measurements with the bounds of the rollback policy."""
    readings = judge(
        measured.snapshots,
        policy.rollback,
        expected_p95_ms=measured.expected_p95_ms,
        silent=measured.failure,
    )
    held = tuple(reading.reason for reading in readings if reading.holds)
    return RollbackCheck(
        model=model,
        version=measured.version,
        window=measured.window,
        should_roll_back=bool(held),
        reasons=held,
        evidence=readings,
        severity=severity_of(readings),
        remedy=remedy_of(readings, policy.rollback.profile),
        policy_hash=policy.hash,
    )


def rollback_check(model: ModelName, evidence: ServingEvidence, presence: PresenceOf = presence_at) -> RollbackCheck:
    """Compare the evidence with the bounds of the rollback policy."""
    measured = measured_performance(model, evidence, presence)
    if measured is None:
        return RollbackCheck(model=model, version=None, window=evidence.window, policy_hash=evidence.policy.hash)
    return judge_performance(model, measured, evidence.policy)


def health_report(
    model: ModelName, evidence: ServingEvidence, now: datetime, presence: PresenceOf = presence_at
) -> HealthReport:
    """Give the health of the version in production; ``unknown`` without data or without a version in production."""
    metrics = metrics_of(evidence.snapshots)
    available = availability_of(model, evidence.servers, evidence.policy.rollback.silence, now, presence)
    outage = available.outage if evidence.record else None
    unsure = available.uncertainty if evidence.record else None
    word, reasons = health_of(metrics, rollback_check(model, evidence, presence), silent=outage, unsure=unsure)
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
