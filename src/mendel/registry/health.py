"""
Compute the health of the production version: ``healthy``, ``degraded``, ``critical`` or ``unknown``, with reasons.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mendel.registry.rollback_triggers import Criterion, RollbackCheck, exceeds, mean_of
from mendel.registry.snapshots import Snapshot
from mendel.values import Health, Measured, ModelName, NotMeasured, Stage, VersionRef

_DEGRADED_ERROR_RATE = 0.01
_CRITICAL_ERROR_RATE = 0.05
_DEGRADED_OOD_RATE = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthMetrics:
    """Means over the window, weighted by requests, however few there were; None without requests."""

    avg_error_rate: float | None
    avg_latency_p95_ms: float | None
    avg_ood_rate: float | None
    snapshot_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """
    The health of a model's production version; without such a version, ``version`` is None and the health ``unknown``.
    """

    model_id: str
    model: ModelName
    version: int | None
    stage: Stage | None
    deployed_at: datetime | None
    health_status: Health
    metrics: HealthMetrics
    reasons: tuple[str, ...] = ()

    @property
    def ref(self) -> VersionRef | None:
        """The production version; None without one."""
        return None if self.version is None else VersionRef(self.model, self.version)


def metrics_of(snapshots: Sequence[Snapshot]) -> HealthMetrics:
    """Average the error rate, the p95 latency and the out-of-distribution rate over *snapshots*."""
    return HealthMetrics(
        avg_error_rate=_value(snapshots, "error_rate"),
        avg_latency_p95_ms=_value(snapshots, "latency_p95_ms"),
        avg_ood_rate=_value(snapshots, "ood_rate"),
        snapshot_count=sum(1 for s in snapshots if s.num_requests != 0),
    )


def health_of(
    metrics: HealthMetrics, check: RollbackCheck, *, silent: str | None, unsure: str | None = None
) -> tuple[Health, tuple[str, ...]]:
    """
    Decide the health, and give the reasons why it is not ``healthy``.

    Rates count as in the rollback triggers: from ``rollback.min_requests`` upward, else the health is ``unknown``.

    Args:
        silent: The reason why the version does not answer; None if it answers or if this is unknown.
        unsure: The reason why it is unknown whether the version answers, such as starting or stopped servers; else
            None.
    """
    if silent is None and unsure is not None:
        return Health.UNKNOWN, (unsure,)
    error, ood = _rate(check, Criterion.ERROR_RATE), _rate(check, Criterion.OOD)
    reasons = list(check.reasons)
    if error is not None and exceeds(error, _DEGRADED_ERROR_RATE) and not any("error" in r for r in reasons):
        reasons.append(f"Error rate: {error:.2%} of requests failed")
    if ood is not None and exceeds(ood, _DEGRADED_OOD_RATE) and not any("OOD" in r for r in reasons):
        reasons.append(f"OOD rate: {ood:.2%} of rows are out of distribution")
    if silent is not None and silent not in reasons:
        reasons.insert(0, silent)
    if silent is not None or (error is not None and exceeds(error, _CRITICAL_ERROR_RATE)):
        return Health.CRITICAL, tuple(reasons)
    if reasons:
        return Health.DEGRADED, tuple(reasons)
    if error is None:
        return Health.UNKNOWN, (_too_few(metrics, check),)
    return Health.HEALTHY, ()


def _rate(check: RollbackCheck, criterion: Criterion) -> float | None:
    found = next((one.measurement for one in check.evidence if one.criterion is criterion), None)
    return found.value if isinstance(found, Measured) else None


def _too_few(metrics: HealthMetrics, check: RollbackCheck) -> str:
    found = next((one.measurement for one in check.evidence if one.criterion is Criterion.ERROR_RATE), None)
    if metrics.snapshot_count and isinstance(found, NotMeasured) and found.have:
        return f"Too few requests in the window: {found.have} of the {found.need} that the policy needs"
    return "No requests in the window"


def _value(snapshots: Sequence[Snapshot], field: str) -> float | None:
    mean = mean_of(snapshots, field)
    return mean.value if isinstance(mean, Measured) else None
