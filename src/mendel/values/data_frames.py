"""Convert data frames and arrays to tables, without importing pandas or polars."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from decimal import Decimal
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from mendel.errors import InvalidInput, InvalidValue
from mendel.values.table import EXACT_TO, Table, is_exact

_TWO_AXES: Final = 2


def as_table(rows: Any, *, times: Literal["text", "micros"] = "text") -> Table:
    """
    Convert a data frame, a mapping of columns, or an array of shape (rows, columns), whose columns are x0, x1...

    Every kind of null is NaN in a column of numbers, else None. A table stays unchanged.

    Args:
        times: ``text`` for ISO 8601, ``micros`` for ``float64`` microseconds since 1970.

    Raises:
        InvalidInput: Two columns have the same name, or the values of a column are arrays.
        InvalidValue: *rows* has no columns.
    """
    if isinstance(rows, Table):
        return rows
    if isinstance(rows, Mapping):
        return Table({str(name): _column(_flat(str(name), column), times) for name, column in rows.items()})
    if is_frame(rows):
        require_distinct_columns(rows)
        return Table({str(name): _column(_flat(str(name), rows[name]), times) for name in rows.columns})
    array = as_array(rows)
    return Table({f"x{place}": _column(array[:, place], times) for place in range(array.shape[1])})


def arrays_in(name: str) -> InvalidInput:
    """Give the error for the column *name*, whose values are lists or arrays."""
    return InvalidInput(
        f"The values of column {name!r} are lists or arrays, which requests cannot represent.",
        remedy="Give each element a column of its own before fitting.",
    )


def _flat(name: str, column: Any) -> NDArray[Any]:
    values = _values(column)
    if values.ndim != 1:
        raise arrays_in(name)
    return values


def is_frame(rows: Any) -> bool:
    """Tell whether *rows* is a pandas or polars data frame."""
    return hasattr(rows, "columns") and not isinstance(rows, Table | Mapping)


def without_column(rows: Any, name: str) -> Any:
    """Give *rows*, a data frame, a Table or an array, without one column, as an object of the same type."""
    if isinstance(rows, Table):
        return rows.without(name)
    if is_frame(rows):
        (found,) = (column for column in rows.columns if str(column) == name)
        return rows.drop(columns=[found]) if hasattr(rows, "iloc") else rows.drop(found)
    array = as_array(rows)
    return np.delete(array, int(name.removeprefix("x")), axis=1)


def require_distinct_columns(frame: Any) -> None:
    """
    Check that all columns of a data frame have different names.

    Raises:
        InvalidInput: Two columns have the same name; the message gives the name.
    """
    names = [str(name) for name in frame.columns]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InvalidInput(f"The frame has two columns named {twice!r}.", remedy="Rename or drop one of the columns.")


def as_array(rows: Any) -> NDArray[Any]:
    """
    Give an array of shape (rows, columns); a sparse matrix becomes dense.

    Raises:
        InvalidValue: *rows* has another number of axes.
    """
    dense = rows.toarray() if hasattr(rows, "toarray") else rows
    try:
        array = np.asarray(dense)
    except ValueError as error:
        raise InvalidValue(f"The features are not rows by columns: {error}.") from error
    if array.ndim != _TWO_AXES:
        raise InvalidValue(
            f"An object of type {type(rows).__name__} has no columns.",
            remedy="Give a data frame, a mapping of names to columns, or an array of shape (rows, columns).",
        )
    return array


def is_null(value: object) -> bool:
    """Tell whether *value* is None, NaN, NaT or pandas' NA; pandas' values are recognised by the name of their type."""
    if value is None or type(value).__name__ in {"NAType", "NaTType"}:
        return True
    return isinstance(value, float | np.floating | np.datetime64 | Decimal) and value != value  # noqa: PLR0124 - NaN, NaT


def shortest_decimals(values: NDArray[Any]) -> NDArray[np.float64]:
    """
    Convert half or single precision to the ``float64`` of the shortest decimal that stands for each value.

    >>> shortest_decimals(np.array([0.1, np.nan, -2.5e-7], dtype=np.float32)).tolist()
    [0.1, nan, -2.5e-07]
    """
    exact = values.astype(np.float64)
    result = exact.copy()
    pending = np.isfinite(exact) & (exact != 0)
    with np.errstate(all="ignore"):
        magnitude = np.where(pending, np.floor(np.log10(np.abs(np.where(pending, exact, 1.0)))), 0.0)
        for digits in range(*((3, 6) if values.dtype.itemsize == 2 else (6, 10))):  # noqa: PLR2004 - half precision
            shift = digits - 1 - magnitude
            scale = 10.0 ** np.abs(shift)
            rounded = np.where(shift >= 0, np.rint(exact * scale) / scale, np.rint(exact / scale) * scale)
            found = pending & (rounded.astype(values.dtype) == values)
            result[found] = rounded[found]
            pending &= ~found
    return result


_PLAIN: Final = frozenset({"float16", "float32", "float64", "bool", "int8", "int16", "int32", "int64"})


def _values(column: Any) -> NDArray[Any]:
    """Give the values of a column of a frame; those of pandas' own types as Python objects."""
    if not hasattr(column, "to_numpy") or isinstance(column, np.ndarray):
        return np.asarray(column)
    if not hasattr(column, "iloc") or str(column.dtype) in _PLAIN:  # polars, or a plain numpy column of pandas
        return np.asarray(column.to_numpy())
    return np.asarray(column.to_numpy(dtype=object), dtype=object)


def _column(column: NDArray[Any], times: str) -> NDArray[Any]:
    match column.dtype.kind:
        case "f":
            return column if column.dtype == np.float64 else shortest_decimals(column)
        case "i" | "u":
            exact = not len(column) or max(abs(int(column.max())), abs(int(column.min()))) <= EXACT_TO
            return column.astype(np.float64) if exact else column.astype(object)
        case "b":
            return column
        case "m" | "M" if times == "micros":
            return _micros(column)
        case _:
            return _objects(column.tolist() if column.dtype.kind != "M" else column.astype("M8[us]").tolist(), times)


def _micros(column: NDArray[Any]) -> NDArray[np.float64]:
    micros = column.astype(f"{column.dtype.kind}8[us]")
    return np.where(np.isnat(micros), np.nan, micros.astype(np.int64).astype(np.float64))


def _objects(values: list[Any], times: str) -> NDArray[Any]:
    plain = [None if is_null(value) else _plain(value, times) for value in values]
    kinds = {type(value) for value in plain} - {type(None)}
    if kinds and kinds <= {int, float} and all(map(is_exact, plain)):
        return np.array([np.nan if value is None else value for value in plain], dtype=np.float64)
    if kinds == {bool} and None not in plain:
        return np.array(plain, dtype=np.bool_)
    return np.fromiter(plain, dtype=object, count=len(plain))


def _plain(value: Any, times: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, bool | int | float | str):
        return value
    if times == "micros" and hasattr(value, "timestamp"):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp() * 1e6
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
