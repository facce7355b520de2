"""Choose the effective label of each prediction, and convert labels to the type of the predictions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from mendel.errors import InvalidInput
from mendel.predictions.entities import Column, LabelRow, object_column
from mendel.values import Table, from_micros


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveLabels:
    """The row of the effective label of each prediction id, and the number of labels that changed an earlier label."""

    row: dict[str, int]
    conflicts: int


def effective_labels(labels: Table) -> EffectiveLabels:
    """
    Choose the last label of each prediction: by the time that the label states, then by its arrival.

    A repeated label with the same outcome is not a conflict.
    """
    row: dict[str, int] = {}
    conflicts = 0
    order = label_order(labels)
    ids, outcomes = (labels["prediction_id"], labels["label"]) if order else ((), ())
    for at in order:
        before = row.get(ids[at])
        conflicts += before is not None and outcomes[before] != outcomes[at]
        row[ids[at]] = at
    return EffectiveLabels(row=row, conflicts=conflicts)


def label_order(labels: Table) -> list[int]:
    """Give the positions of labels in order of effect: a later label replaces an earlier label."""
    if not len(labels):
        return []
    place, seq, received, time = (labels[name] for name in ("place", "seq", "received_at", "label_time"))
    return [int(at) for at in np.lexsort((place, seq, _ranks(labels["spool"]), received, time))]


def convert_labels(labels: Column, predictions: Column) -> Column:
    """
    Convert labels to the type of the predictions if every label allows it: ``"1"`` becomes 1 for numeric predictions.

    >>> convert_labels(np.array(["1", "0"], dtype=object), np.array([1.0, 1.0])).tolist()
    [1.0, 0.0]
    >>> convert_labels(np.array([1.0, 0.0]), np.array(["1", "0"], dtype=object)).tolist()
    ['1', '0']
    """
    if predictions.dtype == object and any(isinstance(value, str) for value in predictions):
        return object_column([None if value is None else class_text(value) for value in labels.tolist()])
    if predictions.dtype not in (object, labels.dtype):
        try:
            return np.array([_number(value) for value in labels.tolist()]).astype(predictions.dtype)
        except (TypeError, ValueError):
            return labels
    return labels


def class_text(value: Any) -> str:
    """
    Write a class as text; integers in floats are written without a fraction.

    >>> class_text(1.0), class_text("1"), class_text(True), class_text("good")
    ('1', '1', 'True', 'good')
    """
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def labels_from(
    table: Table,
    *,
    id_column: str,
    label_column: str,
    source: str,
    received_at: datetime,
    time_column: str | None = None,
) -> tuple[LabelRow, ...]:
    """
    Read labels from a table, one per row; a row without an outcome is skipped.

    Raises:
        InvalidInput: A column is missing, or a row has no prediction id.
    """
    for name in (id_column, label_column, *([time_column] if time_column else [])):
        if name not in table:
            raise InvalidInput(
                f"The label file has no column {name!r}.",
                remedy=f"Choose one of the file's columns: {', '.join(table.names)}.",
            )
    times = table[time_column].tolist() if time_column else [None] * len(table)
    rows = zip(table[id_column].tolist(), table[label_column].tolist(), times, strict=True)
    return tuple(
        LabelRow(
            prediction_id=_id(prediction_id, place),
            true_label=outcome,
            label_source=source,
            received_at=received_at,
            label_timestamp=None if time is None or time != time else from_micros(int(time)),  # noqa: PLR0124 - NaN
        )
        for place, (prediction_id, outcome, time) in enumerate(rows, 1)
        if outcome is not None and outcome == outcome  # noqa: PLR0124 - NaN
    )


def _id(value: object, place: int) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidInput(f"Row {place} of the label file has no prediction id, or the id is not text.")
    return value


def _ranks(texts: Column) -> Column:
    rank = {text: place for place, text in enumerate(sorted(set(texts.tolist())))}
    return np.array([rank[text] for text in texts.tolist()], dtype=np.int64)


def _number(value: Any) -> float:
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return float(value.lower() == "true")
    return float(value)
