"""Compare two versions on the same rows: the gain, its confidence bounds, and the gain in each segment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mendel.drift import LabelledOutcomes, Metric, bootstrap, score_of
from mendel.gates.evidence import SegmentFinding
from mendel.gates.policy import Bounds
from mendel.values import Measured, Measurement, NotMeasured

Floats = NDArray[np.float64]

DRAWS = 2000
_DRAWS_PER_TEST = 4


def score(chosen: Metric, outcomes: LabelledOutcomes) -> Measurement:
    """Compute the metric on all rows, or give the reason why it cannot be measured."""
    if not len(outcomes):
        return NotMeasured(reason="no labelled row", have=0, need=1)
    if chosen.needs_probabilities and outcomes.probabilities is None:
        return NotMeasured(reason="the version returns no probabilities")
    value = score_of(chosen, outcomes)
    if math.isnan(value):
        return NotMeasured(reason=f"{chosen.name} is undefined on these rows")
    return Measured(value=value, samples=len(outcomes))


def relative_gain(candidate: float | Floats, production: float | Floats, *, higher_is_better: bool) -> Floats:
    """
    Compute how much better *candidate* is, as a fraction of *production*; NaN where either is NaN.

    Where production scores 0, a better candidate counts as +100 % and a worse candidate as -100 %.

    >>> relative_gain(np.array([0.51, 0.2]), np.array([0.50, 0.0]), higher_is_better=True).round(4).tolist()
    [0.02, 1.0]
    """
    before = np.asarray(production, dtype=np.float64)
    difference = (np.asarray(candidate) - before) * (1.0 if higher_is_better else -1.0)
    gain: Floats = np.where(before == 0, np.sign(difference), difference / np.where(before == 0, 1.0, np.abs(before)))
    return gain


def rows_for_power(row_deviation: float, difference: float, *, alpha: float, power: float) -> int:
    """
    Compute how many paired rows find *difference* with probability *power*, one-sided at level *alpha*.

        n = ((z_(1-alpha) + z_power) * sigma / difference)^2

    Args:
        row_deviation: The standard deviation of the paired difference of one row.
        difference: The smallest difference that matters, above 0.

    >>> rows_for_power(0.5, 0.05, alpha=0.025, power=0.8)
    785
    """
    normal = NormalDist()
    return math.ceil(((normal.inv_cdf(1 - alpha) + normal.inv_cdf(power)) * row_deviation / difference) ** 2)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pair:
    """The outcomes of candidate and production on the same rows, and the metric that scores them."""

    metric: Metric
    candidate: LabelledOutcomes
    production: LabelledOutcomes

    def take(self, rows: NDArray[np.bool_]) -> Pair:
        """Select the rows of a mask."""
        return Pair(metric=self.metric, candidate=self.candidate.take(rows), production=self.production.take(rows))

    def scores(self) -> tuple[Measured, Measured] | NotMeasured:
        """Compute both scores, the candidate's first, or give the reason why one cannot be measured."""
        now, before = score(self.metric, self.candidate), score(self.metric, self.production)
        if isinstance(now, NotMeasured):
            return now
        return before if isinstance(before, NotMeasured) else (now, before)

    def gain(self, candidate: float | Floats, production: float | Floats) -> Floats:
        """Compute the relative gain from two scores of this metric."""
        return relative_gain(candidate, production, higher_is_better=self.metric.higher_is_better)

    def resample(self, rng: np.random.Generator, *, draws: int) -> Floats | NotMeasured:
        """
        Draw both scores by bootstrap, shape ``(draws, 2)``, without undefined draws; at least half must be defined.
        """
        drawn = bootstrap(self.metric, [self.candidate, self.production], rng, draws=draws)
        drawn = drawn[~np.isnan(drawn).any(axis=1)]
        if len(drawn) < draws / 2:
            return NotMeasured(reason=f"{self.metric.name} is undefined in most resamples of these rows")
        return drawn


def overall_gain(pair: Pair, bounds: Bounds, alpha: float, rng: np.random.Generator) -> tuple[Measurement, int | None]:
    """
    Compute the relative gain with one-sided bounds at level *alpha*, and the rows needed to find the policy's gain.

    There are no bounds when *alpha* is 0. The number of rows is None when there are no bounds or production scores 0.
    """
    scores = pair.scores()
    if isinstance(scores, NotMeasured):
        return scores, None
    now, before = scores
    value = float(pair.gain(now.value, before.value))
    drawn = pair.resample(rng, draws=DRAWS)
    if not alpha or isinstance(drawn, NotMeasured):
        return Measured(value=value, samples=now.samples), None
    low, high = np.quantile(pair.gain(drawn[:, 0], drawn[:, 1]), [alpha, 1 - alpha])
    measured = Measured(value=value, samples=now.samples, low=float(low), high=float(high))
    wanted = bounds.improvement * abs(before.value)
    if not wanted:
        return measured, None
    deviation = float((drawn[:, 0] - drawn[:, 1]).std()) * math.sqrt(now.samples)
    return measured, rows_for_power(deviation, wanted, alpha=alpha, power=bounds.power)


def segment_gains(
    pair: Pair, masks: Mapping[str, NDArray[np.bool_]], bounds: Bounds, rng: np.random.Generator
) -> tuple[SegmentFinding, ...]:
    """Compute the relative gain in each segment, with upper bounds that hold for all segments together."""
    draws = max(DRAWS, math.ceil(_DRAWS_PER_TEST * len(masks) / bounds.alpha))
    findings: dict[str, Measurement] = {}
    drawn: dict[str, Floats] = {}
    for name, mask in masks.items():
        part = pair.take(mask)
        found = _segment(part, bounds, rng, draws)
        if isinstance(found, NotMeasured):
            findings[name] = found
        else:
            findings[name], drawn[name] = found
    highs = holm_bounds(drawn, loss=bounds.segments, alpha=bounds.alpha)
    return tuple(SegmentFinding(name=name, gain=_with_high(gain, highs.get(name))) for name, gain in findings.items())


def holm_bounds(drawn: Mapping[str, Floats], *, loss: float, alpha: float) -> dict[str, float]:
    """
    Compute upper bounds of gains that hold together; a bound below ``-loss`` means that Holm's procedure rejects
    (1979).

    The segments are ordered by evidence for a loss. Each is tested at alpha divided by the number of remaining
    segments; after the first that is not rejected, the level stays the same.
    """
    chances = {name: float((draws >= -loss).mean()) for name, draws in drawn.items()}
    highs: dict[str, float] = {}
    left, rejecting = len(drawn), True
    for name in sorted(drawn, key=lambda name: (chances[name], name)):
        highs[name] = float(np.quantile(drawn[name], 1 - alpha / left))
        rejecting = rejecting and highs[name] < -loss
        left -= rejecting
    return highs


def _segment(part: Pair, bounds: Bounds, rng: np.random.Generator, draws: int) -> tuple[Measured, Floats] | NotMeasured:
    have = len(part.candidate)
    if have < bounds.segment_rows:
        return NotMeasured(reason="too few labelled rows", have=have, need=bounds.segment_rows)
    scores = part.scores()
    if isinstance(scores, NotMeasured):
        return scores
    drawn = part.resample(rng, draws=draws)
    if isinstance(drawn, NotMeasured):
        return drawn
    value = float(part.gain(scores[0].value, scores[1].value))
    return Measured(value=value, samples=have), part.gain(drawn[:, 0], drawn[:, 1])


def _with_high(gain: Measurement, high: float | None) -> Measurement:
    if isinstance(gain, NotMeasured):
        return gain
    return Measured(value=gain.value, samples=gain.samples, high=high)
