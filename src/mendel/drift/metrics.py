"""
Each quality metric once: for a value, for its interval, for the difference of two models.

A metric is prepared on outcomes and then takes weights, one per row: ones give its value, counts of a resample one
bootstrap draw, a matrix many draws at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mendel.drift.outcomes import Outcomes
from mendel.drift.policy import Task
from mendel.errors import InvalidPolicy

Floats = NDArray[np.float64]
Score = Callable[[Floats], Floats]
"""Weights, shape ``(draws, rows)``, to values, shape ``(draws,)``; NaN where the metric is undefined."""

_SMALLEST = float(np.finfo(np.float64).eps)
_CALIBRATION_BINS = 10
_CHUNK = 4_000_000
_FEW_PATTERNS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """
    One way to score outcomes.

    ``relative`` says that it has the unit of the label, so that a margin means a share of its value.
    """

    name: str
    task: Task
    prepare: Callable[[Outcomes], Score]
    higher_is_better: bool = True
    needs_probabilities: bool = False
    relative: bool = False


def metric(name: str) -> Metric:
    """
    The metric of that name.

    Raises:
        InvalidPolicy: There is none.
    """
    try:
        return METRICS[name]
    except KeyError:
        raise InvalidPolicy(f"{name!r} is no metric.", remedy=f"There are {', '.join(sorted(METRICS))}.") from None


def score_of(chosen: Metric, outcomes: Outcomes) -> float:
    """The metric's value on all rows; NaN where undefined."""
    return float(chosen.prepare(outcomes)(np.ones((1, len(outcomes))))[0])


def bootstrap(
    chosen: Metric, models: Sequence[Outcomes], rng: np.random.Generator, *, draws: int
) -> NDArray[np.float64]:
    """
    Resample rows with replacement, the same rows for every model (Efron and Tibshirani 1993).

    Args:
        chosen: What to score.
        models: Outcomes of one or more models on the same rows, of which there is at least one.
        rng: Chance.
        draws: How many resamples.

    Returns:
        Scores, shape ``(draws, models)``; NaN where a resample leaves the metric undefined.
    """
    rows, counts = _patterns(chosen, models)
    scores = [chosen.prepare(outcomes.take(rows)) for outcomes in models]
    chunks = _resamples(len(models[0]), counts, rng, draws)
    return np.concatenate([np.stack([score(weights) for score in scores], axis=1) for weights in chunks])


def _patterns(chosen: Metric, models: Sequence[Outcomes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to keep and how often each stands: rows of equal label and answers are one, unless more than those count."""
    rows = len(models[0])
    if not chosen.needs_probabilities and chosen.task is Task.CLASSIFICATION:
        joint = np.column_stack([models[0].labels, *(outcomes.answers for outcomes in models)])
        _, first, counts = np.unique(joint, axis=0, return_index=True, return_counts=True)
        if len(first) <= _FEW_PATTERNS:
            return first, counts
    return np.arange(rows), np.ones(rows, dtype=np.int64)


def _resamples(rows: int, counts: NDArray[np.int64], rng: np.random.Generator, draws: int) -> Iterator[Floats]:
    size = max(1, min(draws, _CHUNK // max(1, len(counts))))
    for start in range(0, draws, size):
        many = min(size, draws - start)
        if len(counts) < rows or rows == 1:
            yield rng.multinomial(rows, counts / rows, size=many).astype(np.float64)
        else:
            picked = rng.integers(0, rows, size=(many, rows)) + np.arange(many)[:, None] * rows
            yield np.bincount(picked.ravel(), minlength=many * rows).reshape(many, rows).astype(np.float64)


def _mean_of(columns: Floats, fold: Callable[[Floats], Floats]) -> Score:
    """A metric that is a function of the weighted means of columns."""

    def score(weights: Floats) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            return fold(weights @ columns / weights.sum(axis=1, keepdims=True))

    return score


def _first(means: Floats) -> Floats:
    return means[:, 0]


def _accuracy(outcomes: Outcomes) -> Score:
    return _mean_of((outcomes.labels == outcomes.answers).astype(np.float64)[:, None], _first)


def _per_class(outcomes: Outcomes) -> Floats:
    """Columns hit, answered, true for the positive class, or for each class in turn."""
    wanted = range(len(outcomes.classes)) if outcomes.positive is None else [outcomes.positive]
    said = [outcomes.answers == code for code in wanted]
    truth = [outcomes.labels == code for code in wanted]
    hit = [a & b for a, b in zip(said, truth, strict=True)]
    return np.column_stack([*hit, *said, *truth]).astype(np.float64)


def _averaged(outcomes: Outcomes, ratio: Callable[[Floats, Floats, Floats], Floats]) -> Score:
    def fold(means: Floats) -> Floats:
        hit, said, truth = np.split(means, 3, axis=1)
        each = ratio(hit, said, truth)
        if outcomes.positive is not None:
            return each[:, 0]
        # a class that is true but never answered has scored 0; one that does not occur at all has not been tried
        each = np.where(np.isnan(each) & (truth > 0), 0.0, each)
        tried = ~np.isnan(each)
        mean: Floats = np.where(tried, each, 0.0).sum(axis=1) / tried.sum(axis=1)
        return mean

    return _mean_of(_per_class(outcomes), fold)


def _precision(outcomes: Outcomes) -> Score:
    return _averaged(outcomes, lambda hit, said, _: hit / said)


def _recall(outcomes: Outcomes) -> Score:
    return _averaged(outcomes, lambda hit, _, truth: hit / truth)


def _f1(outcomes: Outcomes) -> Score:
    return _averaged(outcomes, lambda hit, said, truth: 2 * hit / (said + truth))


def _balanced_accuracy(outcomes: Outcomes) -> Score:
    every = Outcomes(
        task=outcomes.task, labels=outcomes.labels, answers=outcomes.answers, classes=outcomes.classes, positive=None
    )
    return _recall(every)


def _probabilities(outcomes: Outcomes) -> Floats:
    if outcomes.probabilities is None:
        return np.full((len(outcomes), max(1, len(outcomes.classes))), np.nan)
    return outcomes.probabilities


def _binary(outcomes: Outcomes) -> tuple[Floats, Floats] | None:
    """Probability and truth of the positive class, where there is one."""
    if outcomes.positive is None:
        return None
    truth = (outcomes.labels == outcomes.positive).astype(np.float64)
    return _probabilities(outcomes)[:, outcomes.positive], truth


def _log_loss(outcomes: Outcomes) -> Score:
    of_truth = _probabilities(outcomes)[np.arange(len(outcomes)), outcomes.labels.astype(np.int64)]
    return _mean_of(-np.log(np.clip(of_truth, _SMALLEST, 1.0))[:, None], _first)


def _brier(outcomes: Outcomes) -> Score:
    if (binary := _binary(outcomes)) is not None:
        return _mean_of(((binary[0] - binary[1]) ** 2)[:, None], _first)
    truth = outcomes.labels[:, None] == np.arange(len(outcomes.classes))
    return _mean_of(((_probabilities(outcomes) - truth) ** 2).sum(axis=1, keepdims=True), _first)


def _calibration_error(outcomes: Outcomes) -> Score:
    if (binary := _binary(outcomes)) is not None:
        said, truth = binary
    else:
        every = _probabilities(outcomes)
        said, truth = every.max(axis=1), (every.argmax(axis=1) == outcomes.labels).astype(np.float64)
    place = np.nan_to_num(said * _CALIBRATION_BINS).astype(np.int64).clip(0, _CALIBRATION_BINS - 1)
    columns = np.zeros((len(outcomes), _CALIBRATION_BINS))
    columns[np.arange(len(outcomes)), place] = truth - said
    return _mean_of(columns, lambda means: np.abs(means).sum(axis=1))


def _roc_auc(outcomes: Outcomes) -> Score:
    if (binary := _binary(outcomes)) is None:
        return lambda weights: np.full(len(weights), np.nan)
    order = np.argsort(binary[0], kind="stable")
    said, truth = binary[0][order], binary[1][order]
    starts = np.flatnonzero(np.diff(said, prepend=np.nan) != 0)

    def score(weights: Floats) -> Floats:
        ordered = weights[:, order]
        positive = np.add.reduceat(ordered * truth, starts, axis=1)
        negative = np.add.reduceat(ordered * (1 - truth), starts, axis=1)
        below = np.cumsum(negative, axis=1) - negative / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            area: Floats = (positive * below).sum(axis=1) / (positive.sum(axis=1) * negative.sum(axis=1))
        return area

    return score


def _mae(outcomes: Outcomes) -> Score:
    return _mean_of(np.abs(outcomes.labels - outcomes.answers)[:, None], _first)


def _rmse(outcomes: Outcomes) -> Score:
    return _mean_of(((outcomes.labels - outcomes.answers) ** 2)[:, None], lambda means: np.sqrt(means[:, 0]))


def _r2(outcomes: Outcomes) -> Score:
    centred = outcomes.labels - outcomes.labels.mean()
    columns = np.column_stack([(outcomes.labels - outcomes.answers) ** 2, centred, centred**2])

    def fold(means: Floats) -> Floats:
        spread = means[:, 2] - means[:, 1] ** 2
        return np.where(spread > 0, 1 - means[:, 0] / spread, np.nan)

    return _mean_of(columns, fold)


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
