"""Infer a model signature from training features."""

from __future__ import annotations

from typing import Any

import numpy as np

from mendel.errors import InvalidValue
from mendel.serving.row_batches import objects
from mendel.values import ColumnSpec, ColumnType, Signature, Table


def infer_signature(features: Any, outputs: Any = None) -> Signature:
    """
    Infer the signature of a model from its *features* and, if given, its *outputs*.

    *features* is a Table, a DataFrame, or an array of shape (rows, columns), whose columns are named x0, x1, ... A
    column with a missing value may be null in requests.

    >>> infer_signature(np.zeros((2, 1))).inputs
    (ColumnSpec(name='x0', type=<ColumnType.DOUBLE: 'double'>, required=True),)
    """
    table = as_table(features)
    output = None if outputs is None else _column_type(np.asarray(outputs))
    return Signature.of_columns(tuple(_spec(name, table[name]) for name in table.names), output=output)


def as_table(features: Any) -> Table:
    """Convert a DataFrame, or an array of shape (rows, columns), to a Table; give a Table unchanged."""
    if isinstance(features, Table):
        return features
    if hasattr(features, "columns"):
        return Table({str(name): _normal(np.asarray(features[name])) for name in features.columns})
    array = np.asarray(features)
    if array.ndim != 2:  # noqa: PLR2004 - rows by columns
        raise InvalidValue(
            f"The features have the shape {array.shape}.", remedy="Give a two-dimensional array: rows by columns."
        )
    return Table({f"x{place}": _normal(array[:, place]) for place in range(array.shape[1])})


def _spec(name: str, column: np.ndarray[Any, Any]) -> ColumnSpec:
    missing = np.isnan(column).any() if column.dtype.kind == "f" else any(value is None for value in column.tolist())
    return ColumnSpec(name=name, type=_column_type(column), required=not missing)


def _column_type(column: np.ndarray[Any, Any]) -> ColumnType:
    if column.dtype.kind == "O":
        kinds = {type(value) for value in column.tolist()} - {type(None)}
        if kinds == {bool}:
            return ColumnType.BOOLEAN
        return ColumnType.STRING
    return {"b": ColumnType.BOOLEAN, "i": ColumnType.LONG, "u": ColumnType.LONG, "f": ColumnType.DOUBLE}.get(
        column.dtype.kind, ColumnType.STRING
    )


def _normal(column: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Convert *column* to one of the dtypes of a Table."""
    if column.dtype.kind in "iuf":
        return column.astype(np.float64)
    if column.dtype.kind == "b":
        return column
    values = [None if value is None or value != value else value for value in column.tolist()]  # noqa: PLR0124 - NaN is null
    if all(type(value) in {int, float, type(None)} for value in values):
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    return objects([value if value is None or isinstance(value, bool) else str(value) for value in values])
