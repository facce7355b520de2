"""How good a model was on rows whose truth is known, and whether that is worse than it was."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from mendel.drift.labelled_outcomes import Outcomes
from mendel.drift.policy import MonitoringPolicy, Task
from mendel.drift.quality_metrics import METRICS, Metric, bootstrap, metric, score_of
from mendel.values import Measured, Measurement, NotMeasured

MIN_ROWS = 30
_DRAWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """
    Every metric of a task on one set of rows, with 95 % intervals.

    ``confusion`` has one row per true class and one column per answered class, in the order of ``classes``; it is empty
    for regression. A metric that is undefined there is not measured, and not 0.
    """

    task: Task
    samples: int
    classes: tuple[str, ...]
    metrics: Mapping[str, Measurement]
    confusion: tuple[tuple[int, ...], ...]

    def __getitem__(self, name: str) -> Measurement:
        return self.metrics.get(name, NotMeasured(reason=f"{name} is no metric of {self.task}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityReading:
    """
    Quality of a window against a bound.

    ``crossed`` is None where it could not be told: ``value`` or the reference's is not measured, and no floor is set.
    ``threshold`` is what the whole interval must lie on the wrong side of.
    """

    metric: str
    value: Measurement
    threshold: float | None
    crossed: bool | None
    reason: str


def evaluate(outcomes: Outcomes, rng: np.random.Generator, *, min_rows: int = MIN_ROWS) -> Quality:
    """
    Measure every metric of the task.

    Intervals: Wilson for shares of rows (1927), percentile bootstrap for the rest.

    Args:
        outcomes: Labels and answers.
        rng: Chance, for the bootstrap.
        min_rows: Fewer rows are not measured.
    """
    chosen = [each for each in METRICS.values() if each.task is outcomes.task]
    return Quality(
        task=outcomes.task,
        samples=len(outcomes),
        classes=outcomes.classes,
        metrics={each.name: _measure(each, outcomes, rng, min_rows) for each in chosen},
        confusion=_confusion(outcomes),
    )


def quality_signal(
    reference: Quality, window: Quality, policy: MonitoringPolicy, *, floor: float | None = None
) -> QualityReading:
    """
    Say whether a window's quality has fallen.

    It has when the whole interval of the primary metric is worse than the reference's own lower bound less the policy's
    margin, or than *floor*: both samples' chance is allowed for. For losses, worse is above.

    Args:
        reference: Quality on held-out rows, when the version was made.
        window: Quality now.
        policy: Metric and margin.
        floor: The worst value that is tolerated whatever the reference was.
    """
    chosen, now, before = metric(policy.metric), window[policy.metric], reference[policy.metric]
    sign = 1.0 if chosen.higher_is_better else -1.0
    bounds = [] if floor is None else [sign * floor]
    if isinstance(before, Measured):
        margin = policy.quality_margin * (abs(before.value) if chosen.relative else 1.0)
        bounds.append(sign * _worst(before, sign) - margin)
    if isinstance(now, NotMeasured) or not bounds:
        why = str(now) if isinstance(now, NotMeasured) else f"no reference: {before}"
        return QualityReading(metric=chosen.name, value=now, threshold=None, crossed=None, reason=why)
    threshold, best = max(bounds), -sign * _worst(now, -sign)
    crossed = round(threshold + best, 9) > 0
    word = "below" if chosen.higher_is_better else "above"
    reason = f"{chosen.name} {now.value:.3f} is {'' if crossed else 'not '}surely {word} {sign * threshold:.3f}"
    return QualityReading(metric=chosen.name, value=now, threshold=sign * threshold, crossed=crossed, reason=reason)


def wilson(hits: float, rows: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """
    The interval of a share (Wilson 1927).

    >>> [round(bound, 4) for bound in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, weight = hits / rows, z * z / rows
    middle = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / rows + weight / (4 * rows))
    return max(0.0, middle - half), min(1.0, middle + half)


def _worst(measured: Measured, sign: float) -> float:
    """The end of the interval that is worse when *sign* is 1 for gains and -1 for losses."""
    bound = measured.low if sign > 0 else measured.high
    return measured.value if bound is None else bound


def _measure(chosen: Metric, outcomes: Outcomes, rng: np.random.Generator, min_rows: int) -> Measurement:
    rows = len(outcomes)
    if rows < min_rows:
        return NotMeasured(reason="insufficient_data", have=rows, need=min_rows)
    if chosen.needs_probabilities and outcomes.probabilities is None:
        return NotMeasured(reason="the model gives no probabilities")
    value = score_of(chosen, outcomes)
    if math.isnan(value):
        return NotMeasured(reason=f"{chosen.name} is undefined on these rows")
    low, high = _interval(chosen, outcomes, value, rng)
    return Measured(value=value, samples=rows, low=low, high=high)


def _interval(chosen: Metric, outcomes: Outcomes, value: float, rng: np.random.Generator) -> tuple[float, float]:
    if (tries := _tries(chosen, outcomes)) is not None:
        return wilson(value * tries, tries)
    drawn = bootstrap(chosen, [outcomes], rng, draws=_DRAWS)[:, 0]
    low, high = np.quantile(drawn[~np.isnan(drawn)], [0.025, 0.975])
    return float(low), float(high)


def _tries(chosen: Metric, outcomes: Outcomes) -> float | None:
    """Of how many rows the metric is a share; None where it is no share of rows."""
    if chosen.name == "accuracy":
        return len(outcomes)
    if outcomes.positive is None or chosen.name not in {"precision", "recall"}:
        return None
    column = outcomes.answers if chosen.name == "precision" else outcomes.labels
    return float((column == outcomes.positive).sum())


def _confusion(outcomes: Outcomes) -> tuple[tuple[int, ...], ...]:
    size = len(outcomes.classes)
    cells = (outcomes.labels * size + outcomes.answers).astype(np.int64)
    if not size:
        return ()
    counts = np.bincount(cells, minlength=size * size).reshape(size, size)
    return tuple(tuple(row) for row in counts.tolist())
