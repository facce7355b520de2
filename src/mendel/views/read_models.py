"""Read models: what console, API and CLI show, already put together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mendel.healing import DecisionRecord, Following, Incident, Pause, PlaybookRun
from mendel.registry import HealthMetrics, PolicyDocument, Tenure, VersionRecord
from mendel.values import Deployment, Health, ModelName, Severity, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """
    One model of the fleet.

    Attributes:
        production: The version on the first route; None: none serves.
        open_incidents: Unresolved ones, and ``worst`` their highest severity.
        waiting: Runs that wait for somebody.
    """

    model: ModelName
    versions: int
    production: int | None
    stage: Stage | None
    deployed_at: datetime | None
    health: Health
    reasons: tuple[str, ...]
    metrics: HealthMetrics
    generation: int
    following: Following
    open_incidents: int
    worst: Severity | None
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """Every model, those that need somebody first, then by name; ``pauses`` tells where healing is switched off."""

    at: datetime
    models: tuple[ModelRow, ...]
    pauses: tuple[Pause, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """One model in full; versions, tenures and incidents newest first."""

    row: ModelRow
    versions: tuple[VersionRecord, ...]
    deployment: Deployment
    history: tuple[Tenure, ...]
    policy: PolicyDocument
    incidents: tuple[Incident, ...]
    runs: tuple[PlaybookRun, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentView:
    """An incident with everything that was decided and done about it, oldest first."""

    incident: Incident
    decisions: tuple[DecisionRecord, ...]
    runs: tuple[PlaybookRun, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRow:
    """One event of the ledger; ``summary`` in words."""

    sequence: int
    time: datetime
    type: str
    subject: str
    actor: str
    summary: str
    data: dict[str, Any]
    hash: str
