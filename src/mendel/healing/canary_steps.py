"""Decide about one step of a canary from what both routes did in the same period."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from mendel.drift import wilson_interval
from mendel.errors import InvalidPolicy
from mendel.registry import CanaryRun, Opening, Snapshot, exceeds
from mendel.values import from_mapping

_SURE_OF_WORSE: Final = 0.998
"""The confidence of the interval that demotes: each step is judged every few seconds, so chance must not demote."""
_SURE_OF_GOOD: Final = 0.90
"""The confidence of the two-sided interval whose upper end lets a step pass, one-sided 0.95."""
_FEWEST_ERRORS: Final = 5
"""Fewer failed requests never demote: the intervals are too narrow for a handful of requests."""


class AtEnd(StrEnum):
    """What follows the last step."""

    PROMOTE = "promote"
    HOLD = "hold"


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryPolicy:
    """
    The section ``canary`` of a policy.

    Attributes:
        steps: The shares of the traffic, fractions in (0, 1), growing.
        bake: The shortest time of a step.
        patience: The longest time of a step; a canary that has not shown by then that it is as good is demoted.
        min_requests: The smallest number of requests of each route in a step.
        error_margin: The largest error rate that the canary may have above that of production, a fraction.
        latency_ratio: The largest p95 latency of the canary, as a multiple of that of production.
        at_end: Whether the last step ends with the promotion, or holds until a person promotes.
    """

    steps: tuple[float, ...] = (0.05, 0.25, 0.5)
    bake: timedelta = timedelta(minutes=10)
    patience: timedelta = timedelta(hours=24)
    min_requests: int = 300
    error_margin: float = 0.01
    latency_ratio: float = 1.5
    at_end: AtEnd = AtEnd.PROMOTE

    def __post_init__(self) -> None:
        if not self.steps or list(self.steps) != sorted(set(self.steps)) or not min(self.steps, default=0) > 0:
            raise InvalidPolicy(
                "canary.steps must be growing shares of the traffic.", remedy="Write: [0.05, 0.25, 0.5]"
            )
        if max(self.steps) >= 1:
            raise InvalidPolicy("canary.steps must be below 1: the promotion follows the last step.")
        if not timedelta(0) < self.bake <= self.patience:
            raise InvalidPolicy("canary: bake must be longer than 0 and not longer than patience.")
        if self.min_requests < 1 or not 0 <= self.error_margin < 1 or self.latency_ratio < 1:
            raise InvalidPolicy(
                "canary: min_requests must be at least 1, error_margin a fraction, and latency_ratio at least 1."
            )

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> CanaryPolicy:
        """Read the section ``canary`` of a policy document; without the section, every default applies."""
        return from_mapping(cls, body.get("canary") or {}, at="canary")


class StepVerdict(StrEnum):
    """What happens to a canary now."""

    MOVE_ON = "move_on"
    PROMOTE = "promote"
    WAIT = "wait"
    DEMOTE = "demote"


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedErrors:
    """
    The error rates of both routes in the same period.

    ``low`` and ``high`` bound the difference canary minus production with the confidence 0.9, ``sure_low`` is the lower
    bound with the confidence 0.998.
    """

    canary: float
    production: float
    low: float
    high: float
    sure_low: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryDecision:
    """
    A decision about one step of a canary.

    Attributes:
        why: The sentence that people read, with the numbers.
        until: When the step can pass at the earliest, if only time is missing; else None.
        requests, production_requests: The requests of both routes in the period.
        errors: None while a route has no request.
        p95_ms, production_p95_ms: The p95 latencies; None if not measured.
    """

    verdict: StepVerdict
    why: str
    until: datetime | None = None
    requests: int = 0
    production_requests: int = 0
    errors: PairedErrors | None = None
    p95_ms: float | None = None
    production_p95_ms: float | None = None


def decide_step(
    run: CanaryRun,
    policy: CanaryPolicy,
    canary: Snapshot,
    production: Snapshot,
    *,
    opening: Opening,
    now: datetime,
) -> CanaryDecision:
    """
    Decide whether the canary *run* moves on, is promoted, waits, or is demoted.

    It is demoted when at least 5 requests failed and its error rate is surely more than the margin above that of
    production, when its p95 latency is too high with enough requests, or when the step's time is over without proof. It
    moves on when the step has baked, both routes have enough requests, and its error rate is at most the margin above
    that of production.

    Args:
        canary, production: What both routes did since the step began.
        opening: When the policy lets a version reach more users.
    """
    evidence = _Evidence(canary=canary, production=production)
    unproven = _unproven(evidence, policy)
    late = unproven if now >= run.step_began + policy.patience else ""
    if worse := _worse(evidence, policy) or (late and f"the step's time is over without proof: {late}"):
        return evidence.to(StepVerdict.DEMOTE, worse)
    if unproven:
        return evidence.to(StepVerdict.WAIT, unproven)
    baked = run.step_began + policy.bake
    if now < baked:
        return evidence.to(StepVerdict.WAIT, f"the step lasts until {baked:%Y-%m-%dT%H:%M:%SZ}", until=baked)
    if run.is_last and policy.at_end is AtEnd.HOLD:
        return evidence.to(StepVerdict.WAIT, "the last step passed; a person promotes the version")
    if opening.why:
        return evidence.to(StepVerdict.WAIT, opening.why, until=opening.at)
    return evidence.to(
        StepVerdict.PROMOTE if run.is_last else StepVerdict.MOVE_ON, f"{_told(evidence.errors)}: as good"
    )


def paired_errors(canary: Snapshot, production: Snapshot) -> PairedErrors | None:
    """
    Compare two error rates by Newcombe's hybrid score interval (Newcombe 1998, method 10).

        low = d - sqrt((p1 - l1)^2 + (u0 - p0)^2),  high = d + sqrt((u1 - p1)^2 + (p0 - l0)^2)

    with the Wilson intervals (l, u) of both rates and d = p1 - p0; None if a route has no request.
    """
    n1, n0 = canary.num_requests or 0, production.num_requests or 0
    if not n1 or not n0:
        return None
    p1, p0 = canary.error_rate or 0.0, production.error_rate or 0.0

    def bounds(confidence: float) -> tuple[float, float]:
        l1, u1 = wilson_interval(p1 * n1, n1, confidence=confidence)
        l0, u0 = wilson_interval(p0 * n0, n0, confidence=confidence)
        return p1 - p0 - math.hypot(p1 - l1, u0 - p0), p1 - p0 + math.hypot(u1 - p1, p0 - l0)

    low, high = bounds(_SURE_OF_GOOD)
    return PairedErrors(canary=p1, production=p0, low=low, high=high, sure_low=bounds(_SURE_OF_WORSE)[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Evidence:
    canary: Snapshot
    production: Snapshot

    @property
    def requests(self) -> tuple[int, int]:
        return self.canary.num_requests or 0, self.production.num_requests or 0

    @property
    def errors(self) -> PairedErrors | None:
        return paired_errors(self.canary, self.production)

    @property
    def latency_ratio(self) -> float | None:
        mine, theirs = self.canary.latency_p95_ms, self.production.latency_p95_ms
        return None if mine is None or not theirs else mine / theirs

    def to(self, verdict: StepVerdict, why: str, *, until: datetime | None = None) -> CanaryDecision:
        return CanaryDecision(
            verdict=verdict,
            why=why,
            until=until,
            requests=self.requests[0],
            production_requests=self.requests[1],
            errors=self.errors,
            p95_ms=self.canary.latency_p95_ms,
            production_p95_ms=self.production.latency_p95_ms,
        )


def _worse(evidence: _Evidence, policy: CanaryPolicy) -> str:
    """Say in what the canary is surely worse than production; empty if in nothing."""
    errors, ratio = evidence.errors, evidence.latency_ratio
    failed = round((evidence.canary.error_rate or 0.0) * evidence.requests[0])
    if errors is not None and failed >= _FEWEST_ERRORS and exceeds(errors.sure_low, policy.error_margin):
        return f"{_told(errors)}, more than the margin {policy.error_margin:.2%}"
    if ratio is not None and exceeds(ratio, policy.latency_ratio) and min(evidence.requests) >= policy.min_requests:
        return f"its p95 latency is {ratio:.2f} times that of production, above {policy.latency_ratio:g}"
    return ""


def _unproven(evidence: _Evidence, policy: CanaryPolicy) -> str:
    """Say what is not proven yet; empty if everything is."""
    mine, theirs = evidence.requests
    if min(mine, theirs) < policy.min_requests:
        return f"{mine} requests of the canary and {theirs} of production, each needs {policy.min_requests}"
    errors = evidence.errors
    if errors is not None and exceeds(errors.high, policy.error_margin):
        return f"{_told(errors)}, which may exceed the margin {policy.error_margin:.2%}"
    return ""


def _told(errors: PairedErrors | None) -> str:
    if errors is None:
        return "no errors measured"
    return (
        f"error rate {errors.canary:.2%}, production {errors.production:.2%}, "
        f"difference {errors.low:+.2%} to {errors.high:+.2%}"
    )
