"""What predictors give back, as one builtin value per row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

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
    values = _divide(output, rows)
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


def _divide(output: Any, rows: int) -> list[Any]:
    values = plain(output)
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
