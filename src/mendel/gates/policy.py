"""The ``gates`` section of a policy: how much evidence a promotion needs."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import timedelta
from enum import StrEnum

from mendel.errors import InvalidPolicy


class Profile(StrEnum):
    """A named set of bounds."""

    DEFAULT = "default"
    CONSERVATIVE = "conservative"
    AGGRESSIVE = "aggressive"
    CLASSIC = "classic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """
    The bound of each gate.

    Args:
        samples: The smallest number of labelled evaluation rows.
        coverage: The smallest share of the window's predictions that must have labels.
        cooldown: The shortest time since the last promotion or rollback.
        improvement: The smallest relative gain in the primary metric.
        calibration: The largest increase of the Brier score.
        latency: The largest ratio of the candidate's p95 latency to production's; the gate fails only when the ratio's
            lower confidence bound is larger.
        latency_floor_ms: A p95 latency in ms that always passes, because ratios of smaller values are noise.
        size: The largest ratio of the artefact's size to production's.
        segments: The largest relative loss of a segment; the gate fails only when the upper confidence bound of the
            gain shows a larger loss.
        agreement: The smallest share of unchanged decisions.
        floor: The worst primary metric of a first deployment; None requires balanced accuracy above chance (R2 above
            0).
        alpha: The largest probability of promoting a candidate that is not better, over all its judgements together.
        power: The probability of promoting a candidate that is better by ``improvement``; sets the planned evaluation
            size.
        looks: The largest number of judgements of one candidate.
        segment_rows: The smallest number of rows of a measured segment.
        intervals: Whether gates compare confidence intervals with the bounds; false compares point estimates.
    """

    samples: int = 200
    coverage: float = 0.30
    cooldown: timedelta = timedelta(days=7)
    improvement: float = 0.02
    calibration: float = 0.01
    latency: float = 1.5
    latency_floor_ms: float = 1.0
    size: float = 2.0
    segments: float = 0.05
    agreement: float = 0.80
    floor: float | None = None
    alpha: float = 0.025
    power: float = 0.80
    looks: int = 3
    segment_rows: int = 30
    intervals: bool = True

    def __post_init__(self) -> None:
        for name in ("coverage", "agreement"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidPolicy(f"gates.{name} is {getattr(self, name)}, but must be between 0 and 1.")
        for name in ("alpha", "power"):
            if not 0 < getattr(self, name) < 1:
                raise InvalidPolicy(f"gates.{name} is {getattr(self, name)}, but must be above 0 and below 1.")
        if self.samples < 1 or self.looks < 1 or self.segment_rows < 1:
            raise InvalidPolicy("gates.samples, gates.looks and gates.segment_rows must be at least 1.")
        if min(self.improvement, self.latency, self.size, self.segments) < 0 or self.cooldown < timedelta(0):
            raise InvalidPolicy(
                "gates.improvement, gates.latency, gates.size, gates.segments and gates.cooldown must not be below 0."
            )


PROFILES = {
    Profile.DEFAULT: Bounds(),
    Profile.CONSERVATIVE: Bounds(
        samples=500, coverage=0.50, cooldown=timedelta(days=14), improvement=0.05, calibration=0.005
    ),
    Profile.AGGRESSIVE: Bounds(
        samples=100, coverage=0.10, cooldown=timedelta(days=1), improvement=0.01, calibration=0.05
    ),
    Profile.CLASSIC: Bounds(intervals=False),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GatePolicy:
    """
    A named profile, and the bounds that replace the profile's; None keeps the profile's bound.

    >>> GatePolicy(profile=Profile.CONSERVATIVE, samples=300).bounds.samples
    300
    """

    profile: Profile = Profile.DEFAULT
    samples: int | None = None
    coverage: float | None = None
    cooldown: timedelta | None = None
    improvement: float | None = None
    calibration: float | None = None
    latency: float | None = None
    latency_floor_ms: float | None = None
    size: float | None = None
    segments: float | None = None
    agreement: float | None = None
    floor: float | None = None
    alpha: float | None = None
    power: float | None = None
    looks: int | None = None
    segment_rows: int | None = None
    intervals: bool | None = None

    def __post_init__(self) -> None:
        _ = self.bounds  # raises for invalid bounds

    @property
    def bounds(self) -> Bounds:
        """The bounds in force: the given ones, else the profile's."""
        given = {field.name: getattr(self, field.name) for field in fields(Bounds)}
        return replace(PROFILES[self.profile], **{name: value for name, value in given.items() if value is not None})
