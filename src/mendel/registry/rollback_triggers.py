"""Decide from snapshots whether the production version's performance requires a remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from mendel.registry.policies import Profile, RollbackPolicy
from mendel.registry.snapshots import FROM_COUNTERS, Snapshot
from mendel.values import Measured, Measurement, ModelName, NotMeasured, Severity, Window

_PLACES = 9
_HIGH_ERROR_RATE = 0.10


class Criterion(StrEnum):
    """The quantity that a rollback trigger compares with its bound."""

    ERROR_RATE = "error_rate"
    LATENCY = "latency"
    OOD = "ood"
    DRIFT = "drift"
    AVAILABILITY = "availability"


class Remedy(StrEnum):
    """The remedy that fits the cause, before healing decides."""

    ROLLBACK = "rollback"
    RETRAIN = "retrain"


@dataclass(frozen=True, slots=True, kw_only=True)
class CriterionReading:
    """
    One criterion: the measurement, the bound, and ``holds``, which is true if the measurement is strictly above the
    bound.
    """

    criterion: Criterion
    measurement: Measurement
    threshold: float
    holds: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollbackCheck:
    """
    The result of checking the rollback triggers for the production version.

    Attributes:
        version: The number of the version in production; None if no version is in production.
        should_roll_back: Whether a measurement is above its bound.
        reasons: One sentence for each measurement above its bound.
        evidence: The readings of all criteria, measured or not.
        severity: The severity; None if no measurement is above its bound.
        remedy: Rollback for faults and latency; retrain for drift and OOD, which would affect the former version too;
            always rollback with the profile ``classic``. None if no measurement is above its bound.
    """

    model: ModelName
    version: int | None
    window: Window
    should_roll_back: bool = False
    reasons: tuple[str, ...] = ()
    evidence: tuple[CriterionReading, ...] = ()
    severity: Severity | None = None
    remedy: Remedy | None = None
    policy_hash: str = ""


def judge(
    snapshots: Sequence[Snapshot],
    policy: RollbackPolicy,
    *,
    expected_p95_ms: float | None,
    silent: str | None = None,
) -> tuple[CriterionReading, ...]:
    """
    Compare the means of *snapshots* with the policy's bounds.

    Means are weighted by ``num_requests``. Values are rounded to 1e-9 and must be strictly above the bound.

    Args:
        silent: The reason why the version does not answer; None if it answers or if this is unknown.
    """
    few, few_drift = policy.min_requests, policy.min_requests_drift
    error = mean_of(snapshots, "error_rate", at_least=few)
    latency = mean_of(snapshots, "latency_p95_ms", at_least=few)
    bound = None if expected_p95_ms is None else policy.latency_ratio * expected_p95_ms
    readings = [
        _read(Criterion.ERROR_RATE, error, policy.error_rate, "High error rate: {:.2%}"),
        _latency(latency, bound, expected_p95_ms),
        _read(Criterion.OOD, mean_of(snapshots, "ood_rate", at_least=few), policy.ood_rate, "High OOD rate: {:.2%}"),
        _read(
            Criterion.DRIFT,
            mean_of(snapshots, "input_drift_score", at_least=few_drift),
            policy.drift_kl,
            "Input distribution drift: {:.3f}",
        ),
    ]
    if silent is not None:
        readings.append(
            CriterionReading(
                criterion=Criterion.AVAILABILITY,
                measurement=Measured(value=1.0, samples=1),
                threshold=0.0,
                holds=True,
                reason=silent,
            )
        )
    return tuple(readings)


def severity_of(readings: Sequence[CriterionReading]) -> Severity | None:
    """
    Give critical if the model cannot answer or every request fails, high above 10 % errors, else medium; None without a
    crossed bound.
    """
    held = {r.criterion: r.measurement for r in readings if r.holds}
    if not held:
        return None
    error = held.get(Criterion.ERROR_RATE)
    rate = error.value if isinstance(error, Measured) else 0.0
    if Criterion.AVAILABILITY in held or not exceeds(1.0, rate):
        return Severity.CRITICAL
    return Severity.HIGH if exceeds(rate, _HIGH_ERROR_RATE) else Severity.MEDIUM


def remedy_of(readings: Sequence[CriterionReading], profile: Profile) -> Remedy | None:
    """Give the remedy for the crossed bounds; a fault of the version takes precedence over a change of its inputs."""
    held = {reading.criterion for reading in readings if reading.holds}
    if not held:
        return None
    if profile is Profile.CLASSIC or held - {Criterion.OOD, Criterion.DRIFT}:
        return Remedy.ROLLBACK
    return Remedy.RETRAIN


def mean_of(snapshots: Sequence[Snapshot], field: str, *, at_least: int = 1) -> Measurement:
    """
    Compute the mean of *field* over the snapshots that measured it, weighted by requests.

    Snapshots without ``num_requests`` do not count. Where the servers' counters measured *field* in at least *at_least*
    requests, snapshots of other sources do not count.
    """
    counted = [one for one in snapshots if getattr(one, field) is not None and one.num_requests is not None]
    live = _weighted_mean([one for one in counted if one.source == FROM_COUNTERS], field, at_least)
    if isinstance(live, Measured):
        return live
    pushed = _weighted_mean([one for one in counted if one.source != FROM_COUNTERS], field, at_least)
    return pushed if isinstance(pushed, Measured) or not live.have else live


def _weighted_mean(snapshots: Sequence[Snapshot], field: str, at_least: int) -> Measurement:
    weights = [one.num_requests or 0 for one in snapshots]
    requests = sum(weights)
    if not requests or requests < at_least:
        return NotMeasured(reason="insufficient_data", have=requests, need=at_least, unit="requests")
    values = (getattr(one, field) for one in snapshots)
    mean = sum(value * weight for value, weight in zip(values, weights, strict=True)) / requests
    return Measured(value=mean, samples=requests)


def exceeds(value: float, bound: float) -> bool:
    """
    Whether *value* is strictly above *bound*, both rounded to 1e-9.

    >>> exceeds(0.30000000000000004, 0.3), exceeds(0.3001, 0.3)
    (False, True)
    """
    return round(value, _PLACES) > round(bound, _PLACES)


def _read(criterion: Criterion, measurement: Measurement, threshold: float, sentence: str) -> CriterionReading:
    holds = isinstance(measurement, Measured) and exceeds(measurement.value, threshold)
    return CriterionReading(
        criterion=criterion,
        measurement=measurement,
        threshold=threshold,
        holds=holds,
        reason=sentence.format(measurement.value) if holds and isinstance(measurement, Measured) else "",
    )


def _latency(measurement: Measurement, bound: float | None, expected: float | None) -> CriterionReading:
    if bound is None or expected is None:
        unknown = NotMeasured(reason="no expected p95 latency was registered with the version")
        return CriterionReading(criterion=Criterion.LATENCY, measurement=unknown, threshold=0.0)
    sentence = f"Latency degradation: {{:.1f}}ms (expected {expected:.1f}ms)"
    return _read(Criterion.LATENCY, measurement, bound, sentence)
