"""Measure a model's quality on labelled rows, and compare it with the quality in the reference."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from mendel.drift.labelled_outcomes import LabelledOutcomes
from mendel.drift.policy import MonitoringPolicy, Task
from mendel.drift.quality_metrics import METRICS, Metric, bootstrap, metric, score_of
from mendel.values import Measured, Measurement, NotMeasured

MIN_ROWS = 30
_DRAWS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """
    All metrics of a task on one set of rows, with 95 % confidence intervals.

    ``confusion`` has one row per true class and one column per answered class, in the order of ``classes``; it is empty
    for regression. A metric that is undefined on these rows is NotMeasured, not 0.
    """

    task: Task
    samples: int
    classes: tuple[str, ...]
    metrics: Mapping[str, Measurement]
    confusion: tuple[tuple[int, ...], ...]

    def __getitem__(self, name: str) -> Measurement:
        return self.metrics.get(name, NotMeasured(reason=f"{name} is not a metric for the task {self.task}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityReading:
    """
    The comparison of a window's quality with a threshold.

    Attributes:
        threshold: The value that the whole confidence interval must be worse than; None when unknown.
        crossed: True when the interval is worse than the threshold; None when ``value`` is not measured, or when
            neither the reference's quality nor a floor is known.
    """

    metric: str
    value: Measurement
    threshold: float | None
    crossed: bool | None
    reason: str


def evaluate_quality(outcomes: LabelledOutcomes, rng: np.random.Generator, *, min_rows: int = MIN_ROWS) -> Quality:
    """
    Measure every metric of the task.

    The confidence intervals are Wilson's (1927) for metrics that are shares of rows, else percentile bootstrap.

    Args:
        outcomes: Labels and answers.
        rng: The random generator for the bootstrap.
        min_rows: The smallest number of rows that is measured.
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
    Decide whether a window's quality is worse than the reference's.

    Quality is worse when the whole confidence interval of the primary metric is worse than the worse end of the
    reference's interval minus the policy's margin, or worse than *floor*. So the uncertainty of both samples is taken
    into account. For losses, such as RMSE, worse means above.

    Args:
        reference: The quality on held-out rows when the version was made.
        window: The current quality.
        policy: The primary metric and its margin.
        floor: The worst tolerated value, independent of the reference's quality.
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
    negation = "" if crossed else "not "
    reason = f"{chosen.name} {now.value:.3f} is {negation}{word} {sign * threshold:.3f} with 95 % confidence"
    return QualityReading(metric=chosen.name, value=now, threshold=sign * threshold, crossed=crossed, reason=reason)


def wilson_interval(hits: float, rows: float, *, confidence: float = 0.95) -> tuple[float, float]:
    """
    Compute the confidence interval of a share (Wilson 1927).

    >>> [round(bound, 4) for bound in wilson_interval(8, 10)]
    [0.4902, 0.9433]
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, weight = hits / rows, z * z / rows
    middle = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / rows + weight / (4 * rows))
    return max(0.0, middle - half), min(1.0, middle + half)


def _worst(measured: Measured, sign: float) -> float:
    """Give the worse end of the interval; *sign* is 1 for metrics to maximise and -1 for losses."""
    bound = measured.low if sign > 0 else measured.high
    return measured.value if bound is None else bound


def _measure(chosen: Metric, outcomes: LabelledOutcomes, rng: np.random.Generator, min_rows: int) -> Measurement:
    rows = len(outcomes)
    if rows < min_rows:
        return NotMeasured(reason="insufficient_data", have=rows, need=min_rows, unit="labelled rows")
    if chosen.needs_probabilities and outcomes.probabilities is None:
        return NotMeasured(reason="the model returns no probabilities")
    value = score_of(chosen, outcomes)
    if math.isnan(value):
        return NotMeasured(reason=f"{chosen.name} is undefined on these rows")
    low, high = _interval(chosen, outcomes, value, rng)
    return Measured(value=value, samples=rows, low=low, high=high)


def _interval(
    chosen: Metric, outcomes: LabelledOutcomes, value: float, rng: np.random.Generator
) -> tuple[float, float]:
    if (tries := _tries(chosen, outcomes)) is not None:
        return wilson_interval(value * tries, tries)
    drawn = bootstrap(chosen, [outcomes], rng, draws=_DRAWS)[:, 0]
    low, high = np.quantile(drawn[~np.isnan(drawn)], [0.025, 0.975])
    return float(low), float(high)


def _tries(chosen: Metric, outcomes: LabelledOutcomes) -> float | None:
    """Give the number of rows of which the metric is a share; None for a metric that is not a share of rows."""
    if chosen.name == "accuracy":
        return len(outcomes)
    if outcomes.positive is None or chosen.name not in {"precision", "recall"}:
        return None
    column = outcomes.answers if chosen.name == "precision" else outcomes.labels
    return float((column == outcomes.positive).sum())


def _confusion(outcomes: LabelledOutcomes) -> tuple[tuple[int, ...], ...]:
    size = len(outcomes.classes)
    cells = (outcomes.labels * size + outcomes.answers).astype(np.int64)
    if not size:
        return ()
    counts = np.bincount(cells, minlength=size * size).reshape(size, size)
    return tuple(tuple(row) for row in counts.tolist())
