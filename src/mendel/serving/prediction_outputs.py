"""Convert the return values of models to one JSON value per row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendel.errors import ModelFailed
from mendel.serving import model_program


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
    try:
        return model_program.plain(value)
    except model_program.InvalidAnswer as error:
        raise ModelFailed(str(error)) from None


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
