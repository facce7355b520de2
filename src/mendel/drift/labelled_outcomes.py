"""Labels and answers of the same rows, prepared for quality metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mendel.drift.feature_counts import as_numbers, category_name
from mendel.drift.policy import Task
from mendel.errors import InvalidValue, ShapeMismatch
from mendel.values import Table

Floats = NDArray[np.float64]
_PROBABILITY = "proba."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LabelledOutcomes:
    """
    Labels and answers of the same rows, without the rows that lack either.

    For classification, labels and answers are positions in ``classes``, and ``probabilities`` has one column per class.
    ``positive`` is the position of the positive class of precision, recall and F1; None takes their mean over the
    classes. For regression, labels and answers are numbers, and ``classes`` is empty.
    """

    task: Task
    labels: Floats
    answers: Floats
    classes: tuple[str, ...] = ()
    positive: int | None = None
    probabilities: Floats | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray[Any]) -> LabelledOutcomes:
        """Give the rows selected by *rows*, a numpy mask or an array of positions."""
        return LabelledOutcomes(
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
    ) -> LabelledOutcomes:
        """
        Pair the labels and answers of a classifier.

        Args:
            labels: The true classes; None or NaN when missing.
            answers: The classes that the model answered.
            probabilities: The column of each class's probability, by class; None when the model gives no probabilities.
            classes: Further classes, which need not occur in the rows.
            positive: The positive class; by default the second of exactly two classes in order. With fewer than two
                classes in the rows, it need not occur.

        Raises:
            ShapeMismatch: The columns have different lengths.
            InvalidValue: *positive* is not among the classes.
        """
        truth, answered = (_keys(column) for column in (labels, answers))
        scores = {category_name(name): np.asarray(column, np.float64) for name, column in (probabilities or {}).items()}
        lengths = {len(truth), len(answered), *(len(column) for column in scores.values())}
        if len(lengths) > 1:
            raise ShapeMismatch(f"Labels, answers and probabilities have different lengths: {sorted(lengths)}.")
        named = {key for key in (*truth, *answered, *scores, *map(category_name, classes)) if key is not None}
        if (wanted := category_name(positive)) is not None and len(named) < 2:  # noqa: PLR2004 - a class and its absence
            named.add(wanted)
        ordered = tuple(sorted(named, key=_class_order))
        code = {key: float(position) for position, key in enumerate(ordered)}
        pairs = zip(truth, answered, strict=True)
        known = np.array([label is not None and answer is not None for label, answer in pairs], dtype=np.bool_)
        table = None
        if scores:
            nothing = np.zeros(len(truth))
            table = np.column_stack([scores.get(key, nothing) for key in ordered])
            known &= np.isfinite(table).all(axis=1)
        return cls(
            task=Task.CLASSIFICATION,
            labels=np.array([code.get(key or "", np.nan) for key in truth])[known],
            answers=np.array([code.get(key or "", np.nan) for key in answered])[known],
            classes=ordered,
            positive=_positive(ordered, wanted),
            probabilities=None if table is None else table[known],
        )

    @classmethod
    def regression(cls, labels: ArrayLike, answers: ArrayLike) -> LabelledOutcomes:
        """
        Pair the labels and answers of a regression.

        Raises:
            ShapeMismatch: Labels and answers have different lengths.
            InvalidValue: A label or an answer is not a number.
        """
        truth, answered = as_numbers("label", np.asarray(labels)), as_numbers("prediction", np.asarray(answers))
        if truth.shape != answered.shape:
            raise ShapeMismatch(
                f"The number of labels ({len(truth)}) differs from the number of answers ({len(answered)})."
            )
        known = np.isfinite(truth) & np.isfinite(answered)
        return cls(task=Task.REGRESSION, labels=truth[known], answers=answered[known])

    @classmethod
    def of(cls, table: Table, *, task: Task = Task.CLASSIFICATION, positive: object = None) -> LabelledOutcomes:
        """
        Read the columns ``label``, ``prediction`` and ``proba.<class>`` of labelled predictions.

        Raises:
            InvalidValue: The column ``label`` or ``prediction`` is missing.
        """
        for name in ("label", "prediction"):
            if name not in table:
                raise InvalidValue(
                    f"The labelled predictions have no column {name!r}; their columns are {', '.join(table.names)}."
                )
        if task is Task.REGRESSION:
            return cls.regression(table["label"], table["prediction"])
        scores = {n.removeprefix(_PROBABILITY): table[n] for n in table.names if n.startswith(_PROBABILITY)}
        return cls.classification(table["label"], table["prediction"], scores, positive=positive)


def _keys(column: ArrayLike) -> list[str | None]:
    values = np.asarray(column, dtype=None if isinstance(column, np.ndarray) else object)
    if values.dtype == np.float64 and len(values) > len(distinct := np.unique(values)):
        names = {value: category_name(value) for value in distinct.tolist()}
        return [names.get(value) for value in values.tolist()]
    return [category_name(value) for value in values.tolist()]


def _class_order(key: str) -> tuple[int, float, str]:
    """Sort key of a class: numbers by value, then words by text."""
    try:
        return (0, float(key), key)
    except ValueError:
        return (1, 0.0, key)


def _positive(classes: tuple[str, ...], named: str | None) -> int | None:
    if named is None:
        return 1 if len(classes) == 2 else None  # noqa: PLR2004 - binary
    if named not in classes:
        raise InvalidValue(
            (
                f"The positive class {named!r} is not a class of the model; the classes are: "
                f"{', '.join(classes) or '(none)'}."
            ),
            remedy="Set monitoring.positive_label to one of the classes.",
        )
    return classes.index(named)
