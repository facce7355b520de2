"""Between tables of numpy columns and Arrow; what Arrow knows more than a table is said in one place."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray

from mendel.values import Table

Column = NDArray[Any]
MIXED = "mixed"
_UTC_MICROS = pa.timestamp("us", "UTC")


def to_arrow(table: Table, *, times: frozenset[str] = frozenset()) -> pa.Table:
    """The table in Arrow; ``int64`` columns among *times* become timestamps in UTC."""
    return pa.table({name: arrow_column(column, time=name in times) for name, column in table.columns.items()})


def arrow_column(column: Column, *, time: bool = False) -> pa.Array:
    """
    One column: numbers as they are (NaN is null), truth values, text, or, where kinds are mixed, JSON text.

    A column of nothing but None has Arrow's null type.
    """
    if time and column.dtype == np.int64:
        return pa.array(column).cast(_UTC_MICROS)
    if column.dtype != object:
        return pa.array(column, from_pandas=True)
    values = column.tolist()
    if column_kind(values) == MIXED:
        return pa.array([None if value is None else json.dumps(value, default=str) for value in values], pa.string())
    return pa.array([float(v) if type(v) is int else v for v in values], from_pandas=True)


def column_kind(values: list[Any]) -> str:
    """What the values of an object column are: ``number``, ``truth``, ``text``, ``nothing`` or ``mixed``."""
    kinds = {type(value) for value in values} - {type(None)}
    for name, members in (("nothing", set()), ("truth", {bool}), ("number", {int, float}), ("text", {str})):
        if kinds <= members:
            return name
    return MIXED


def from_arrow(table: pa.Table) -> Table:
    """
    The table of numpy columns: numbers and decimals ``float64``, truth values ``bool``, times ``int64`` microseconds.

    A truth value or time column with a null in it is an object column, or float, with the null as None, or NaN.
    """
    return Table({name: numpy_column(table.column(name)) for name in table.column_names})


def numpy_column(column: pa.ChunkedArray, *, integers: bool = False) -> Column:
    """One column of :func:`from_arrow`; *integers* without null may stay ``int64``."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return numpy_column(column.cast(kind.value_type), integers=integers)
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        micros = column.cast(pa.timestamp("us", getattr(kind, "tz", None))).cast(pa.int64())
        return _numbers(micros, pa.int64()) if not micros.null_count else _numbers(micros, pa.float64())
    if pa.types.is_boolean(kind):
        return _objects(column) if column.null_count else column.to_numpy()
    if integers and pa.types.is_integer(kind) and not column.null_count:
        return _numbers(column, pa.int64())
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _numbers(column, pa.float64())
    return column.to_numpy() if pa.types.is_string(kind) else _objects(column)


def _numbers(column: pa.ChunkedArray, kind: pa.DataType) -> Column:
    values: Column = column.cast(kind, safe=False).to_numpy()
    return values


def _objects(column: pa.ChunkedArray) -> Column:
    values = np.empty(len(column), dtype=object)
    values[:] = column.to_pylist()
    return values
