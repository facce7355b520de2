"""Assemble read models from stored rows; the same code serves every store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from mendel.healing import Pause, convergence_of
from mendel.registry import (
    PolicyDocument,
    PresenceOf,
    ServerState,
    ServingWindow,
    Snapshot,
    VersionRecord,
    availability_of,
    evidence_of,
    health_report,
    nothing_serves,
    policy_window,
    serving_window,
)
from mendel.values import Deployment, Health, ModelName, Severity, VersionCounters, VersionRef
from mendel.views.read_models import FleetIssue, FleetView, ModelRow

_WORST_FIRST = (Health.CRITICAL, Health.DEGRADED, Health.UNKNOWN, Health.HEALTHY)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """
    The stored facts of one model, without measurements.

    Attributes:
        serving: The version in production; None if no version is in production.
        since: When that version entered production; None if no version is in production.
        open_severities: The severities of the model's unresolved incidents.
        waiting: The number of playbook runs that wait for approval.
    """

    deployment: Deployment
    versions: int
    policy: PolicyDocument
    serving: VersionRecord | None = None
    since: datetime | None = None
    open_severities: tuple[Severity, ...] = ()
    waiting: int = 0

    @property
    def model(self) -> ModelName:
        return self.deployment.model

    def window(self, now: datetime) -> ServingWindow | None:
        """Give the window whose measurements count; None when no version is in production."""
        if self.serving is None:
            return None
        return serving_window(self.serving.ref, self.since, policy_window(self.policy, now))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """The counters and snapshots of one version in its window."""

    counted: tuple[VersionCounters, ...] = ()
    recorded: tuple[Snapshot, ...] = ()


NOTHING_MEASURED = Measurements()


def model_row(
    facts: ModelFacts, measured: Measurements, servers: tuple[ServerState, ...], now: datetime, presence: PresenceOf
) -> ModelRow:
    """
    Make the fleet row of one model.

    Args:
        servers: The servers that have the model loaded.
    """
    window = facts.window(now)
    if facts.serving is None or window is None:
        evidence = nothing_serves(facts.policy, policy_window(facts.policy, now), servers)
    else:
        evidence = evidence_of(
            facts.serving,
            window,
            counted=measured.counted,
            recorded=measured.recorded,
            servers=servers,
            policy=facts.policy,
        )
    return ModelRow(
        model=facts.model,
        versions=facts.versions,
        production=facts.deployment.production,
        generation=facts.deployment.generation,
        policy_hash=facts.policy.hash,
        health=health_report(facts.model, evidence, now, presence),
        convergence=convergence_of(
            facts.deployment, availability_of(facts.model, servers, facts.policy.rollback.silence, now, presence)
        ),
        open_incidents=len(facts.open_severities),
        worst=max(facts.open_severities, key=lambda severity: severity.rank, default=None),
        waiting=facts.waiting,
    )


def fleet_view(
    facts: Iterable[ModelFacts],
    measured: Mapping[VersionRef, Measurements],
    servers: Sequence[ServerState],
    pauses: tuple[Pause, ...],
    now: datetime,
    *,
    presence: PresenceOf,
) -> FleetView:
    """Make the fleet view, with one row for every model."""
    holders = servers_by_model(servers)
    rows = sorted(
        (
            model_row(
                one,
                NOTHING_MEASURED if one.serving is None else measured.get(one.serving.ref, NOTHING_MEASURED),
                holders.get(one.model, ()),
                now,
                presence,
            )
            for one in facts
        ),
        key=_urgency,
    )
    words = [row.health.health_status for row in rows]
    return FleetView(
        at=now,
        total_models=len(rows),
        healthy=words.count(Health.HEALTHY),
        degraded=words.count(Health.DEGRADED),
        critical=words.count(Health.CRITICAL),
        unknown=words.count(Health.UNKNOWN),
        issues=tuple(
            FleetIssue(model_id=row.health.model_id, version=row.health.version, reasons=row.health.reasons)
            for row in rows
            if row.health.health_status is not Health.HEALTHY
        ),
        models=tuple(rows),
        pauses=pauses,
    )


def servers_by_model(servers: Sequence[ServerState]) -> dict[ModelName, tuple[ServerState, ...]]:
    """Give the servers of each model; their reports are reduced to that model."""
    found: dict[ModelName, tuple[ServerState, ...]] = {}
    for server in servers:
        for one in server.report.convergence:
            narrowed = replace(server, report=replace(server.report, convergence=(one,)))
            found[one.model] = (*found.get(one.model, ()), narrowed)
    return found


def _urgency(row: ModelRow) -> tuple[int, int, str]:
    worst = 0 if row.worst is None else row.worst.rank + 1
    return -worst, _WORST_FIRST.index(row.health.health_status), row.model
