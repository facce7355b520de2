"""The read models that console, API and CLI show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mendel.healing import DecisionRecord, DeploymentConvergence, Incident, Pause, PlaybookRun
from mendel.registry import HealthReport, PolicyDocument, ProductionPeriod, VersionRecord
from mendel.values import Deployment, ModelName, Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """
    One model in the fleet view.

    Attributes:
        versions: The number of versions.
        production: The number of the version in production; None if no version is in production.
        generation: The deployment's generation.
        policy_hash: The hash of the policy in force.
        health: The health of the version in production, with its main measurements.
        convergence: How many servers serve the current deployment.
        open_incidents: The number of unresolved incidents; ``worst`` is their highest severity, None without incidents.
        waiting: The number of playbook runs that wait for approval.
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
    """A model that is not healthy, with the reasons."""

    model_id: str
    version: int | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetView:
    """
    All models at the time ``at``.

    Attributes:
        healthy: How many models are healthy; each model is counted once.
        issues: The models that are not healthy, and why.
        models: All models; those that need attention first, then by name.
        pauses: The pauses of healing that are in force.
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
    """One model with all details; versions, production periods and incidents newest first, runs oldest first."""

    row: ModelRow
    versions: tuple[VersionRecord, ...]
    deployment: Deployment
    history: tuple[ProductionPeriod, ...]
    policy: PolicyDocument
    incidents: tuple[Incident, ...]
    runs: tuple[PlaybookRun, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentView:
    """An incident with its decisions and playbook runs, oldest first."""

    incident: Incident
    decisions: tuple[DecisionRecord, ...]
    runs: tuple[PlaybookRun, ...]
