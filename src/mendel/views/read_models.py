"""Read models: what console, API and CLI show, already put together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mendel.healing import DecisionRecord, DeploymentConvergence, Incident, Pause, PlaybookRun
from mendel.registry import HealthReport, PolicyDocument, ProductionPeriod, VersionRecord
from mendel.values import Deployment, ModelName, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """
    One model of the fleet.

    Attributes:
        versions: How many it has.
        production: The version on the first route; None: none serves.
        generation: Of its deployment.
        policy_hash: Of the policy in force.
        health: How the version in production is, with its key readings.
        convergence: How far servers are with the deployment.
        open_incidents: How many are unresolved, and ``worst`` their highest severity.
        waiting: How many runs wait for a person.
    """

    model: ModelName
    versions: int
    production: int | None
    generation: int
    policy_hash: str
    health: HealthReport
    convergence: DeploymentConvergence
    open_incidents: int
    worst: Severity | None
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetIssue:
    """A model that is not healthy, and why."""

    model_id: str
    version: int | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """
    Every model at one moment.

    Attributes:
        healthy: How many models are healthy; each model is counted once.
        issues: The models that are not healthy, and why.
        models: Those that need somebody first, then by name.
        pauses: Where healing is switched off.
    """

    at: datetime
    total_models: int
    healthy: int
    degraded: int
    critical: int
    unknown: int
    issues: tuple[FleetIssue, ...]
    models: tuple[ModelRow, ...]
    pauses: tuple[Pause, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """One model in full; versions, tenures and incidents newest first, runs oldest first."""

    row: ModelRow
    versions: tuple[VersionRecord, ...]
    deployment: Deployment
    history: tuple[ProductionPeriod, ...]
    policy: PolicyDocument
    incidents: tuple[Incident, ...]
    runs: tuple[PlaybookRun, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentView:
    """An incident with everything that was decided and done about it, oldest first."""

    incident: Incident
    decisions: tuple[DecisionRecord, ...]
    runs: tuple[PlaybookRun, ...]
