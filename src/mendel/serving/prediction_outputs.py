"""What predictors give back, as one builtin value per row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendel.errors import ModelFailed


def per_row(output: Any, rows: int) -> list[Any]:
    """
    One JSON value per row of an array, list, scalar, dict, Series or DataFrame.

    NaN and infinities become None. A scalar, or a dict that does not hold one sequence per row, answers one row.

    Raises:
        ModelFailed: The output cannot be divided into *rows* answers.

    >>> per_row({"label": ["a", "b"], "score": np.array([0.5, np.nan])}, 2)
    [{'label': 'a', 'score': 0.5}, {'label': 'b', 'score': None}]
    """
    values = divide(plain(output), rows)
    if len(values) != rows:
        raise ModelFailed(f"The model answered {len(values)} rows for {rows}.")
    return values


def probabilities_per_row(output: Any, rows: int) -> list[list[float | None]]:
    """
    One list of class probabilities per row.

    Raises:
        ModelFailed: The output is not of shape (rows, classes).
    """
    values = per_row(output, rows)
    if not all(isinstance(row, list) for row in values):
        raise ModelFailed("predict_proba did not answer one row of probabilities per row.")
    return values


def matrix_of(probabilities: list[list[float | None]], classes: tuple[Any, ...] | None) -> NDArray[np.float64]:
    """
    Probabilities as ``float64``, shape (rows, classes); null is NaN.

    Raises:
        ModelFailed: The rows have different lengths, or not one probability per class.
    """
    try:
        matrix = np.array(probabilities, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ModelFailed("predict_proba did not answer rows of numbers, all of one length.") from error
    if matrix.ndim != 2:  # noqa: PLR2004 - rows by classes
        raise ModelFailed("predict_proba did not answer one row of probabilities per row.")
    if classes is not None and matrix.shape[1] != len(classes):
        raise ModelFailed(f"predict_proba answered {matrix.shape[1]} probabilities per row, of {len(classes)} classes.")
    return matrix


def plain(value: Any) -> Any:
    """
    *value* as JSON knows it.

    Raises:
        ModelFailed: JSON has no word for it.
    """
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    return _foreign(value)


def _foreign(value: Any) -> Any:
    """Arrays, frames, times: by what they can do, so that none of their packages is imported."""
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, np.ndarray):
        return _array(value)
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return [plain(row) for row in value.to_dict(orient="records")]
    if hasattr(value, "to_numpy"):
        return _array(value.to_numpy())
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise ModelFailed(f"The model answered a {type(value).__name__}, which JSON cannot carry.")


def divide(values: Any, rows: int) -> list[Any]:
    """The parts of what JSON knows: one per row where it is so divided, else what there is."""
    if isinstance(values, dict):
        columns = list(values.values())
        if columns and all(isinstance(column, list) and len(column) == rows for column in columns):
            return [dict(zip(values, row, strict=True)) for row in zip(*columns, strict=True)]
        return [values]
    return values if isinstance(values, list) else [values]


def _array(array: np.ndarray[Any, Any]) -> Any:
    if array.dtype.kind in "biuU":
        return array.tolist()
    if array.dtype.kind == "f" and np.isfinite(array).all():
        return array.tolist()
    return plain(array.tolist())
