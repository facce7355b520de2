"""Rows whose truth is known: labels beside answers, ready to be scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mendel.drift.feature_counts import as_numbers, category
from mendel.drift.policy import Task
from mendel.errors import InvalidValue, ShapeMismatch
from mendel.values import Table

Floats = NDArray[np.float64]
_PROBABILITY = "proba."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcomes:
    """
    Labels and answers of the same rows; rows that lack either were left out.

    For classification both are positions in ``classes``, and ``probabilities`` has one column per class; ``positive``
    is the position of the class that precision, recall and F1 are about, None for their mean over classes. For
    regression both are numbers and there are no classes.
    """

    task: Task
    labels: Floats
    answers: Floats
    classes: tuple[str, ...] = ()
    positive: int | None = None
    probabilities: Floats | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[Any]) -> Outcomes:
        """The rows that *rows* names, as numpy indexes: a mask or positions."""
        return Outcomes(
            task=self.task,
            labels=self.labels[rows],
            answers=self.answers[rows],
            classes=self.classes,
            positive=self.positive,
            probabilities=None if self.probabilities is None else self.probabilities[rows],
        )

    @classmethod
    def classification(
        cls,
        labels: ArrayLike,
        answers: ArrayLike,
        probabilities: Mapping[Any, ArrayLike] | None = None,
        *,
        classes: Sequence[Any] = (),
        positive: object = None,
    ) -> Outcomes:
        """
        Put labels and answers of a classifier side by side.

        Args:
            labels: The true classes; missing as None or NaN.
            answers: The classes answered.
            probabilities: One column per class, by class; None where the model gives none.
            classes: Classes to know of beyond those that occur.
            positive: The positive class; of exactly two classes the second in order, unless named. It need not occur
                where fewer than two classes do.

        Raises:
            ShapeMismatch: The columns differ in length.
            InvalidValue: *positive* is none of two or more classes.
        """
        truth, said = (_keys(column) for column in (labels, answers))
        scores = {category(name): np.asarray(column, np.float64) for name, column in (probabilities or {}).items()}
        lengths = {len(truth), len(said), *(len(column) for column in scores.values())}
        if len(lengths) > 1:
            raise ShapeMismatch(f"Labels, answers and probabilities have different lengths: {sorted(lengths)}.")
        named = {key for key in (*truth, *said, *scores, *map(category, classes)) if key is not None}
        if (wanted := category(positive)) is not None and len(named) < 2:  # noqa: PLR2004 - a class and its absence
            named.add(wanted)
        ordered = tuple(sorted(named, key=_class_order))
        code = {key: float(position) for position, key in enumerate(ordered)}
        known = np.array([a is not None and b is not None for a, b in zip(truth, said, strict=True)], dtype=np.bool_)
        table = None
        if scores:
            nothing = np.zeros(len(truth))
            table = np.column_stack([scores.get(key, nothing) for key in ordered])
            known &= np.isfinite(table).all(axis=1)
        return cls(
            task=Task.CLASSIFICATION,
            labels=np.array([code.get(key or "", np.nan) for key in truth])[known],
            answers=np.array([code.get(key or "", np.nan) for key in said])[known],
            classes=ordered,
            positive=_positive(ordered, wanted),
            probabilities=None if table is None else table[known],
        )

    @classmethod
    def regression(cls, labels: ArrayLike, answers: ArrayLike) -> Outcomes:
        """
        Put labels and answers of a regression side by side.

        Raises:
            ShapeMismatch: They differ in length.
            InvalidValue: One of them is no number.
        """
        truth, said = as_numbers("label", np.asarray(labels)), as_numbers("prediction", np.asarray(answers))
        if truth.shape != said.shape:
            raise ShapeMismatch(f"There are {len(truth)} labels, but {len(said)} answers.")
        known = np.isfinite(truth) & np.isfinite(said)
        return cls(task=Task.REGRESSION, labels=truth[known], answers=said[known])

    @classmethod
    def of(cls, table: Table, *, task: Task = Task.CLASSIFICATION, positive: object = None) -> Outcomes:
        """
        Read the columns ``label``, ``prediction`` and ``proba.<class>`` of labelled predictions.

        Raises:
            InvalidValue: ``label`` or ``prediction`` is not there.
        """
        for name in ("label", "prediction"):
            if name not in table:
                raise InvalidValue(f"Labelled predictions need a column {name!r}; there are {', '.join(table.names)}.")
        if task is Task.REGRESSION:
            return cls.regression(table["label"], table["prediction"])
        scores = {n.removeprefix(_PROBABILITY): table[n] for n in table.names if n.startswith(_PROBABILITY)}
        return cls.classification(table["label"], table["prediction"], scores, positive=positive)


def _keys(column: ArrayLike) -> list[str | None]:
    values = np.asarray(column, dtype=None if isinstance(column, np.ndarray) else object)
    if values.dtype == np.float64 and len(values) > len(distinct := np.unique(values)):
        names = {value: category(value) for value in distinct.tolist()}
        return [names.get(value) for value in values.tolist()]
    return [category(value) for value in values.tolist()]


def _class_order(key: str) -> tuple[int, float, str]:
    """Numbers as numbers, before words."""
    try:
        return (0, float(key), key)
    except ValueError:
        return (1, 0.0, key)


def _positive(classes: tuple[str, ...], named: str | None) -> int | None:
    if named is None:
        return 1 if len(classes) == 2 else None  # noqa: PLR2004 - binary
    if named not in classes:
        raise InvalidValue(f"The positive class {named!r} is none of {', '.join(classes) or 'no classes'}.")
    return classes.index(named)
