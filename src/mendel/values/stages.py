"""Stages of versions, severities of incidents, and health."""

from __future__ import annotations

from enum import StrEnum


class Stage(StrEnum):
    """The stage of a version; the registry's transition table lists the allowed moves."""

    DEVELOPMENT = "development"
    SANDBOX = "sandbox"
    CANARY = "canary"
    PRODUCTION = "production"
    ROLLBACK = "rollback"
    DEPRECATED = "deprecated"


class Severity(StrEnum):
    """The severity of an incident, in ascending order."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """The severity as a number from 0 (low) to 3 (critical)."""
        return list(Severity).index(self)


class Health(StrEnum):
    """The health of a model, server or component; ``unknown`` never counts as healthy."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    CRITICAL = "critical"
    UNKNOWN = "unknown"
