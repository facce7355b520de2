"""Convert the return values of models to one JSON value per row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mendel.errors import ModelFailed

MOST_DENSE: Final = 10_000_000
"""The largest number of elements of a sparse answer that is converted to a dense array."""


def per_row(output: Any, rows: int) -> list[Any]:
    """
    Convert a model's output (array, list, scalar, dict, Series or DataFrame) to one JSON value per row.

    NaN and infinities become None. A dict of lists with *rows* values each gives one dict per row; a scalar or any
    other dict is the answer for one row.

    Raises:
        ModelFailed: The output does not have one answer for each of the *rows* rows.

    >>> per_row({"label": ["a", "b"], "score": np.array([0.5, np.nan])}, 2)
    [{'label': 'a', 'score': 0.5}, {'label': 'b', 'score': None}]
    """
    values = divide(plain(output), rows)
    if len(values) != rows:
        raise ModelFailed(f"The model returned {len(values)} answers for {rows} rows.")
    return values


def probabilities_per_row(output: Any, rows: int) -> list[list[float | None]]:
    """
    Convert the output of ``predict_proba`` to one list of class probabilities per row.

    A row of a model with several outputs is a list of such lists, one per output.

    Raises:
        ModelFailed: The output is not of shape (rows, classes).
    """
    if _one_array_per_output(output, rows):
        return [list(row) for row in zip(*(plain(array) for array in output), strict=True)]
    values = per_row(output, rows)
    if not all(isinstance(row, list) for row in values):
        raise ModelFailed("predict_proba did not return one list of probabilities per row.")
    return values


def _one_array_per_output(output: Any, rows: int) -> bool:
    """Tell whether *output* is the answer of a multi-output classifier: one array of shape (rows, classes) each."""
    return (
        isinstance(output, list)
        and bool(output)
        and all(isinstance(array, np.ndarray) and array.ndim == 2 and len(array) == rows for array in output)  # noqa: PLR2004 - rows by classes
    )


def flat_classes(classes: tuple[Any, ...]) -> tuple[str, ...]:
    """
    Give the text of each class; for several outputs ``<output>:<class>``, with outputs counted from 0.

    >>> flat_classes(("no", "yes")), flat_classes(((0, 1), (0, 1, 2)))
    (('no', 'yes'), ('0:0', '0:1', '1:0', '1:1', '1:2'))
    """
    if classes and all(isinstance(inner, tuple) for inner in classes):
        return tuple(f"{output}:{name}" for output, inner in enumerate(classes) for name in inner)
    return tuple(map(str, classes))


def matrix_of(probabilities: list[Any], classes: tuple[Any, ...] | None) -> NDArray[np.float64]:
    """
    Convert probabilities to an array of ``float64`` with shape (rows, classes); None becomes NaN.

    Args:
        classes: The classes of the model; None skips the check of their number.

    Raises:
        ModelFailed: The rows have different lengths, or do not have one probability per class.
    """
    if probabilities and probabilities[0] and isinstance(probabilities[0][0], list):
        probabilities = [[share for output in row for share in output] for row in probabilities]
    try:
        matrix = np.array(probabilities, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ModelFailed("predict_proba did not return lists of numbers of equal length.") from error
    if matrix.ndim != 2:  # noqa: PLR2004 - rows by classes
        raise ModelFailed("predict_proba did not return one list of probabilities per row.")
    if classes is not None and matrix.shape[1] != (width := len(flat_classes(classes))):
        raise ModelFailed(
            f"predict_proba returned {matrix.shape[1]} probabilities per row; the model has {width} classes."
        )
    return matrix


def plain(value: Any) -> Any:
    """
    Convert *value* to values that JSON can represent; NaN and infinities become None.

    Raises:
        ModelFailed: JSON cannot represent the type of the value.
    """
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise ModelFailed("The model returned a whole number that does not fit in 64 bits.")
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    return _foreign(value)


def _foreign(value: Any) -> Any:
    """Convert arrays, data frames and times, recognised by their methods so that pandas need not be imported."""
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, np.ndarray):
        return _array(value)
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        return _dense(value)
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return [plain(row) for row in value.to_dict(orient="records")]
    if hasattr(value, "to_numpy"):
        return _array(value.to_numpy())
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise ModelFailed(f"The model returned a value of type {type(value).__name__}, which JSON cannot represent.")


def _dense(value: Any) -> Any:
    if math.prod(value.shape) > MOST_DENSE:
        raise ModelFailed(f"The model returned a sparse matrix of shape {value.shape}, which is too large to send.")
    return _array(value.toarray())


def divide(values: Any, rows: int) -> list[Any]:
    """
    Split a converted model output into a list of answers.

    A list is the list of answers. A dict of lists with *rows* values each becomes one dict per row. Any other value is
    the only answer.
    """
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
