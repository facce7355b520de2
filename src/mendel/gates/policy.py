"""How much evidence a promotion needs: the ``gates`` section of a policy."""

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
    What each gate holds its evidence against, by the gate's name.

    Args:
        samples: Fewest labelled evaluation rows.
        coverage: Smallest share of the window's rows that has labels.
        cooldown: Shortest time since the last promotion or rollback.
        improvement: Smallest relative gain of the primary metric.
        calibration: Largest increase of the Brier score.
        latency: Largest ratio of p95 to production's; only the ratio's lower bound fails it.
        latency_floor_ms: A p95 that passes whatever production's is: below it ratios are noise.
        size: Largest ratio of the artefact's bytes to production's.
        segments: Largest relative loss that a segment may surely have.
        agreement: Smallest share of unchanged decisions.
        floor: Worst primary metric of a first deployment; None asks for balanced accuracy above chance (R2 above 0).
        alpha: Chance of promoting a candidate that is no better, over all looks.
        power: Chance of promoting one that is better by ``improvement``, which the evaluation size is planned for.
        looks: How often one candidate may be judged.
        segment_rows: Smaller segments are not measured.
        intervals: Whether bounds are held against intervals; without, against point estimates only.
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
                raise InvalidPolicy(f"gates.{name} is {getattr(self, name)}, which is not between 0 and 1.")
        for name in ("alpha", "power"):
            if not 0 < getattr(self, name) < 1:
                raise InvalidPolicy(
                    f"gates.{name} is {getattr(self, name)}, which is not a probability above 0 and below 1."
                )
        if self.samples < 1 or self.looks < 1 or self.segment_rows < 1:
            raise InvalidPolicy("gates.samples, gates.looks and gates.segment_rows count from 1.")
        if min(self.improvement, self.latency, self.size, self.segments) < 0 or self.cooldown < timedelta(0):
            raise InvalidPolicy("gates.improvement, latency, size, segments and cooldown are not below 0.")


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
    A profile, and the bounds that differ from it; None keeps the profile's.

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
        _ = self.bounds  # refuses nonsense at birth

    @property
    def bounds(self) -> Bounds:
        """Every bound, the profile's or the one given."""
        given = {field.name: getattr(self, field.name) for field in fields(Bounds)}
        return replace(PROFILES[self.profile], **{name: value for name, value in given.items() if value is not None})
