"""Statistics of the prediction log: counts of predictions and labels, and the rate of positive answers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendel.predictions.entities import Column
from mendel.predictions.label_matching import class_text
from mendel.values import Measured, Measurement, ModelName, NotMeasured, Table, Window

NEWEST_ROWS = 100
SPANS: tuple[timedelta, ...] = (timedelta(hours=1), timedelta(hours=6), timedelta(hours=24))


@dataclass(frozen=True, slots=True, kw_only=True)
class RowStats:
    """
    Statistics of a set of rows.

    ``positive_rate`` is the share of answers that are the positive class. ``probability_mean`` and ``probability_std``
    are mean and standard deviation of the positive class's probability.
    """

    count: int
    labelled: int
    positive_rate: Measurement
    probability_mean: Measurement
    probability_std: Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanStats:
    """Statistics of the rows in one window."""

    window: Window
    rows: RowStats


@dataclass(frozen=True, slots=True, kw_only=True)
class LogStats:
    """
    Statistics of one model's prediction log.

    Attributes:
        window: The window that the counts cover.
        predictions: Rows whose answer was returned to a caller; neither shadow nor quarantined.
        shadow: Rows of shadow predictions, whose answer was not returned.
        quarantined: Rows with an implausible claimed event time; they count in no window.
        errors: Rows among *predictions* that failed.
        coverage: Share of *predictions* with a label.
        conflicts: Labels of this model that changed an earlier label of the same prediction.
        unmatched: Labels, of any model, whose prediction is not logged.
        positive: The class that counts as positive; None when unknown.
        last: Statistics of the newest 100 predictions.
        spans: Statistics of the last 1, 6 and 24 hours.
    """

    model: ModelName
    window: Window
    predictions: int
    shadow: int
    quarantined: int
    errors: int
    labelled: int
    coverage: Measurement
    conflicts: int
    unmatched: int
    positive: str | None
    last: RowStats
    spans: tuple[SpanStats, ...]


def positive_class(rows: Table) -> str | None:
    """
    Guess the positive class: the second of two classes with probabilities, else ``1`` of 0 and 1, else ``True``.

    Returns:
        The class as text; None when the answers fit none of these cases.
    """
    classes = [name.removeprefix("proba.") for name in rows.names if name.startswith("proba.")]
    if classes:
        return classes[1] if len(classes) == 2 else None  # noqa: PLR2004 - binary
    answers = {class_text(value) for value in rows["prediction"].tolist() if value is not None} - {"nan"}
    if answers and answers <= {"0", "1"}:
        return "1"
    return "True" if answers and answers <= {"True", "False"} else None


def row_stats(rows: Table, *, labelled: NDArray[np.bool_], positive: str | None) -> RowStats:
    """Compute the statistics of *rows*; *labelled* is a mask of the rows with a label."""
    answers = [class_text(value) for value in rows["prediction"].tolist() if not _missing(value)]
    rate: Measurement = NotMeasured(reason="the positive class is unknown (monitoring.positive_label is not set)")
    if positive is not None:
        rate = _mean(np.array([answer == class_text(positive) for answer in answers], dtype=np.float64))
    likely = rows.columns.get(f"proba.{positive}")
    return RowStats(
        count=len(rows),
        labelled=int(labelled.sum()),
        positive_rate=rate,
        probability_mean=_of_probability(likely, np.mean),
        probability_std=_of_probability(likely, np.std),
    )


def share(part: int, whole: int) -> Measurement:
    """Compute the share *part* / *whole*; NotMeasured when *whole* is 0."""
    return (
        Measured(value=part / whole, samples=whole) if whole else NotMeasured(reason="no predictions", have=0, need=1)
    )


def _of_probability(likely: Column | None, figure: Any) -> Measurement:
    if likely is None:
        return NotMeasured(reason="the model returns no probability of the positive class")
    known = likely[~np.isnan(likely.astype(np.float64))].astype(np.float64)
    if not len(known):
        return NotMeasured(reason="no predictions", have=0, need=1)
    return Measured(value=float(figure(known)), samples=len(known))


def _mean(values: NDArray[np.float64]) -> Measurement:
    if not len(values):
        return NotMeasured(reason="no predictions", have=0, need=1)
    return Measured(value=float(values.mean()), samples=len(values))


def _missing(value: object) -> bool:
    return value is None or value != value  # noqa: PLR0124 - NaN
