"""Where a version stands, how bad a thing is."""

from __future__ import annotations

from enum import StrEnum


class Stage(StrEnum):
    """Where a version stands; the moves between stages are the registry's transition table."""

    DEVELOPMENT = "development"
    SANDBOX = "sandbox"
    CANARY = "canary"
    PRODUCTION = "production"
    ROLLBACK = "rollback"
    DEPRECATED = "deprecated"


class Severity(StrEnum):
    """How bad an incident is, worst last."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """0 for low up to 3 for critical."""
        return list(Severity).index(self)


class Health(StrEnum):
    """The one vocabulary of health; ``unknown`` is never counted healthy."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    CRITICAL = "critical"
    UNKNOWN = "unknown"
