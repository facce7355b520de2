"""
The quality metrics, each defined once for its value, its interval and the difference between two models.

Every metric is a function of the means of some columns over the rows. A bootstrap draw needs only the means of a
resample, so it does not visit the rows again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mendel.drift.labelled_outcomes import LabelledOutcomes
from mendel.drift.policy import Task
from mendel.errors import InvalidPolicy

Floats = NDArray[np.float64]

_SMALLEST = float(np.finfo(np.float64).eps)
_CALIBRATION_BINS = 10
_FEW_PATTERNS = 1000
_MOST_BITS = 52
_FEW_ROWS = 250
_NOISE = 1e-12


@dataclass(frozen=True, slots=True, eq=False)
class PreparedMetric:
    """
    A metric prepared for given outcomes.

    ``columns`` has one row per outcome. ``fold`` maps means of the columns, shape ``(draws, columns)``, to values of
    the metric, shape ``(draws,)``; NaN when the metric is undefined.
    """

    columns: Floats
    fold: Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """
    A quality metric.

    ``relative`` is True for a metric in the unit of the label, whose margins are shares of its value.
    """

    name: str
    task: Task
    prepare: Callable[[LabelledOutcomes], PreparedMetric]
    higher_is_better: bool = True
    needs_probabilities: bool = False
    relative: bool = False


def metric(name: str) -> Metric:
    """
    Look up the metric *name*.

    Raises:
        InvalidPolicy: No metric has this name.
    """
    try:
        return METRICS[name]
    except KeyError:
        raise InvalidPolicy(
            f"{name!r} is not a quality metric.", remedy=f"Choose one of {', '.join(sorted(METRICS))}."
        ) from None


def score_of(chosen: Metric, outcomes: LabelledOutcomes) -> float:
    """Compute the metric's value on all rows, at least one; NaN when undefined."""
    prepared = chosen.prepare(outcomes)
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(prepared.fold(prepared.columns.mean(axis=0, keepdims=True))[0])


def bootstrap(
    chosen: Metric, models: Sequence[LabelledOutcomes], rng: np.random.Generator, *, draws: int
) -> NDArray[np.float64]:
    """
    Resample rows with replacement, the same rows for every model (Efron and Tibshirani 1993).

    When the metric distinguishes few kinds of rows, the count of each kind is drawn from a multinomial distribution:
    exact, and as fast for a million rows as for a thousand. Otherwise the means of more than 250 rows are drawn from
    their normal limit.

    Args:
        chosen: The metric.
        models: Outcomes of one or more models on the same rows, at least one row.
        rng: The random generator.
        draws: The number of resamples.

    Returns:
        The metric's values, shape ``(draws, models)``; NaN when the metric is undefined on a resample.
    """
    prepared = [chosen.prepare(outcomes) for outcomes in models]
    means = _resampled_means(np.hstack([each.columns for each in prepared]), rng, draws)
    ends = np.cumsum([each.columns.shape[1] for each in prepared])[:-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = [each.fold(part) for each, part in zip(prepared, np.split(means, ends, axis=1), strict=True)]
    return np.stack(scores, axis=1)


def _resampled_means(columns: Floats, rng: np.random.Generator, draws: int) -> Floats:
    rows = len(columns)
    if (patterns := _patterns(columns)) is not None:
        distinct, counts = patterns
        weights: Floats = rng.multinomial(rows, counts / rows, size=draws).astype(np.float64)
        return weights @ distinct / rows
    if rows <= _FEW_ROWS:
        picked = rng.integers(0, rows, size=(draws, rows)) + np.arange(draws)[:, None] * rows
        times = np.bincount(picked.ravel(), minlength=draws * rows).reshape(draws, rows)
        resampled: Floats = times @ columns / rows
        return resampled
    spread, directions = np.linalg.eigh(np.cov(columns, rowvar=False, ddof=0).reshape(columns.shape[1], -1) / rows)
    lengths = np.sqrt(np.where(spread > _NOISE * spread.max(), spread, 0.0))
    normal = rng.standard_normal((draws, len(lengths)))
    drawn: Floats = columns.mean(axis=0) + (normal * lengths) @ directions.T
    return drawn


def _patterns(columns: Floats) -> tuple[Floats, NDArray[np.int64]] | None:
    """Give the distinct rows of columns of 0 and 1, and their counts; None for other values or many distinct rows."""
    if columns.shape[1] > _MOST_BITS or not ((columns == 0) | (columns == 1)).all():
        return None
    codes = columns @ 2.0 ** np.arange(columns.shape[1])
    _, first, counts = np.unique(codes, return_index=True, return_counts=True)
    return (columns[first], counts) if len(first) <= _FEW_PATTERNS else None


def _first(means: Floats) -> Floats:
    return means[:, 0]


def _accuracy(outcomes: LabelledOutcomes) -> PreparedMetric:
    return PreparedMetric((outcomes.labels == outcomes.answers).astype(np.float64)[:, None], _first)


def _per_class(outcomes: LabelledOutcomes) -> Floats:
    """Give the columns hit, answered and true, for the positive class or, without one, for each class."""
    wanted = range(len(outcomes.classes)) if outcomes.positive is None else [outcomes.positive]
    said = [outcomes.answers == code for code in wanted]
    truth = [outcomes.labels == code for code in wanted]
    hit = [a & b for a, b in zip(said, truth, strict=True)]
    return np.column_stack([*hit, *said, *truth]).astype(np.float64)


def _averaged(outcomes: LabelledOutcomes, ratio: Callable[[Floats, Floats, Floats], Floats]) -> PreparedMetric:
    def fold(means: Floats) -> Floats:
        hit, said, truth = np.split(means, 3, axis=1)
        each = ratio(hit, said, truth)
        if outcomes.positive is not None:
            return each[:, 0]
        # a class that is true but never answered scores 0; a class that does not occur at all is left out
        each = np.where(np.isnan(each) & (truth > 0), 0.0, each)
        tried = ~np.isnan(each)
        mean: Floats = np.where(tried, each, 0.0).sum(axis=1) / tried.sum(axis=1)
        return mean

    return PreparedMetric(_per_class(outcomes), fold)


def _precision(outcomes: LabelledOutcomes) -> PreparedMetric:
    return _averaged(outcomes, lambda hit, said, _: hit / said)


def _recall(outcomes: LabelledOutcomes) -> PreparedMetric:
    return _averaged(outcomes, lambda hit, _, truth: hit / truth)


def _f1(outcomes: LabelledOutcomes) -> PreparedMetric:
    return _averaged(outcomes, lambda hit, said, truth: 2 * hit / (said + truth))


def _balanced_accuracy(outcomes: LabelledOutcomes) -> PreparedMetric:
    every = LabelledOutcomes(
        task=outcomes.task, labels=outcomes.labels, answers=outcomes.answers, classes=outcomes.classes, positive=None
    )
    return _recall(every)


def _probabilities(outcomes: LabelledOutcomes) -> Floats:
    if outcomes.probabilities is None:
        return np.full((len(outcomes), max(1, len(outcomes.classes))), np.nan)
    return outcomes.probabilities


def _binary(outcomes: LabelledOutcomes) -> tuple[Floats, Floats] | None:
    """Give probability and truth of the positive class; None without a positive class."""
    if outcomes.positive is None:
        return None
    truth = (outcomes.labels == outcomes.positive).astype(np.float64)
    return _probabilities(outcomes)[:, outcomes.positive], truth


def _log_loss(outcomes: LabelledOutcomes) -> PreparedMetric:
    of_truth = _probabilities(outcomes)[np.arange(len(outcomes)), outcomes.labels.astype(np.int64)]
    return PreparedMetric(-np.log(np.clip(of_truth, _SMALLEST, 1.0))[:, None], _first)


def _brier(outcomes: LabelledOutcomes) -> PreparedMetric:
    if (binary := _binary(outcomes)) is not None:
        return PreparedMetric(((binary[0] - binary[1]) ** 2)[:, None], _first)
    truth = outcomes.labels[:, None] == np.arange(len(outcomes.classes))
    return PreparedMetric(((_probabilities(outcomes) - truth) ** 2).sum(axis=1, keepdims=True), _first)


def _calibration_error(outcomes: LabelledOutcomes) -> PreparedMetric:
    if (binary := _binary(outcomes)) is not None:
        said, truth = binary
    else:
        every = _probabilities(outcomes)
        said, truth = every.max(axis=1), (every.argmax(axis=1) == outcomes.labels).astype(np.float64)
    place = np.nan_to_num(said * _CALIBRATION_BINS).astype(np.int64).clip(0, _CALIBRATION_BINS - 1)
    columns = np.zeros((len(outcomes), _CALIBRATION_BINS))
    columns[np.arange(len(outcomes)), place] = truth - said
    return PreparedMetric(columns, lambda means: np.abs(means).sum(axis=1))


def _roc_auc(outcomes: LabelledOutcomes) -> PreparedMetric:
    """
    Prepare the area under the ROC curve; ties count half.

    The area of a resample is a first-order approximation from the placement of each row among the rows of the other
    class (DeLong, DeLong and Clarke-Pearson 1988).
    """
    if (binary := _binary(outcomes)) is None:
        return PreparedMetric(np.full((len(outcomes), 1), np.nan), _first)
    said, truth = binary
    placed = np.empty(len(said))
    for here in (truth == 1, truth == 0):
        others = np.sort(said[~here])
        below, upto = (np.searchsorted(others, said[here], side=side) for side in ("left", "right"))
        placed[here] = (below + upto) / 2 / max(1, len(others))
    placed = np.where(truth == 1, placed, 1 - placed)
    area = placed[truth == 1].mean() if truth.any() and not truth.all() else np.nan
    columns = np.column_stack([truth, placed * truth, placed * (1 - truth)])

    def fold(means: Floats) -> Floats:
        value: Floats = means[:, 1] / means[:, 0] + means[:, 2] / (1 - means[:, 0]) - area
        return value

    return PreparedMetric(columns, fold)


def _mae(outcomes: LabelledOutcomes) -> PreparedMetric:
    return PreparedMetric(np.abs(outcomes.labels - outcomes.answers)[:, None], _first)


def _rmse(outcomes: LabelledOutcomes) -> PreparedMetric:
    return PreparedMetric(((outcomes.labels - outcomes.answers) ** 2)[:, None], lambda means: np.sqrt(means[:, 0]))


def _r2(outcomes: LabelledOutcomes) -> PreparedMetric:
    centred = outcomes.labels - outcomes.labels.mean()
    columns = np.column_stack([(outcomes.labels - outcomes.answers) ** 2, centred, centred**2])

    def fold(means: Floats) -> Floats:
        spread = means[:, 2] - means[:, 1] ** 2
        return np.where(spread > 0, 1 - means[:, 0] / spread, np.nan)

    return PreparedMetric(columns, fold)


_CLASSIFICATION = [
    Metric(name="accuracy", task=Task.CLASSIFICATION, prepare=_accuracy),
    Metric(name="balanced_accuracy", task=Task.CLASSIFICATION, prepare=_balanced_accuracy),
    Metric(name="precision", task=Task.CLASSIFICATION, prepare=_precision),
    Metric(name="recall", task=Task.CLASSIFICATION, prepare=_recall),
    Metric(name="f1", task=Task.CLASSIFICATION, prepare=_f1),
    Metric(name="roc_auc", task=Task.CLASSIFICATION, prepare=_roc_auc, needs_probabilities=True),
]
_LOSSES = [
    Metric(name=name, task=Task.CLASSIFICATION, prepare=prepare, higher_is_better=False, needs_probabilities=True)
    for name, prepare in (("log_loss", _log_loss), ("brier", _brier), ("calibration_error", _calibration_error))
]
_REGRESSION = [
    Metric(name="mae", task=Task.REGRESSION, prepare=_mae, higher_is_better=False, relative=True),
    Metric(name="rmse", task=Task.REGRESSION, prepare=_rmse, higher_is_better=False, relative=True),
    Metric(name="r2", task=Task.REGRESSION, prepare=_r2),
]
METRICS = {each.name: each for each in (*_CLASSIFICATION, *_LOSSES, *_REGRESSION)}
