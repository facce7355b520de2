"""Convert between Mendel's tables (columns of numpy arrays) and Arrow tables."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from numpy.typing import NDArray

from mendel.values import Table
from mendel.values.table import is_exact

Column = NDArray[Any]
MIXED = "mixed"
_UTC_MICROS = pa.timestamp("us", "UTC")


def to_arrow(table: Table, *, times: frozenset[str] = frozenset()) -> pa.Table:
    """
    Convert *table* to Arrow; a column of numbers named in *times* (microseconds since 1970) becomes a UTC timestamp.
    """
    return pa.table({name: arrow_column(column, time=name in times) for name, column in table.columns.items()})


def arrow_column(column: Column, *, time: bool = False) -> pa.Array:
    """
    Convert one numpy column to Arrow; a column of mixed value types becomes JSON text.

    NaN and None become null. A column that contains only None has Arrow's null type.
    """
    if time and column.dtype.kind in "if":
        return pa.array(column, from_pandas=True).cast(pa.int64()).cast(_UTC_MICROS)
    if column.dtype != object:
        return pa.array(column, from_pandas=True)
    values = column.tolist()
    match column_kind(values):
        case "mixed":
            texts = [None if value is None else json.dumps(value, default=str) for value in values]
            return pa.array(texts, pa.string())
        case "integer":
            return pa.array(values, pa.int64())
        case _:
            return pa.array([float(v) if type(v) is int else v for v in values], from_pandas=True)


def column_kind(values: list[Any]) -> str:
    """
    Name the kind of an object column: ``number``, ``integer``, ``truth``, ``text``, ``nothing`` or ``mixed``.

    Whole numbers are ``number`` where each of them is a float64, too, else ``integer`` where each fits in 64 bits.
    """
    kinds = {type(value) for value in values} - {type(None)}
    for name, members in (("nothing", set()), ("truth", {bool}), ("text", {str})):
        if kinds <= members:
            return name
    if not kinds <= {int, float}:
        return MIXED
    if all(map(is_exact, values)):
        return "number"
    fits = kinds == {int} and all(value is None or -(2**63) <= value < 2**63 for value in values)
    return "integer" if fits else MIXED


def from_arrow(table: pa.Table) -> Table:
    """
    Convert an Arrow table to numpy columns: numbers to ``float64``, booleans to ``bool``, times to ``int64``
    microseconds.

    With a null, a boolean column becomes an object column with None, and a time column becomes ``float64`` with NaN.
    """
    return Table({name: numpy_column(table.column(name)) for name in table.column_names})


def numpy_column(column: pa.ChunkedArray, *, integers: bool = False) -> Column:
    """
    Convert one column as :func:`from_arrow` does; with *integers*, an integer column without null becomes ``int64``.
    """
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
