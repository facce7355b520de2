"""Decoded rows in typed columns, and the rows of many requests put together into one batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from mendel.serving.model_program import stacked
from mendel.values import Table
from mendel.values.data_frames import shortest_decimals
from mendel.values.table import EXACT_TO, is_exact

DOUBLE: Final = "f8"
OBJECT: Final = "O"


@dataclass(frozen=True)
class Shape:
    """
    The columns of a request; requests of one shape may share a batch.

    Attributes:
        dtypes: The numpy type with which each column is stored: ``f8``, ``i8``, ``?``, ``M8[us]``, ``M8[ns]``, or ``O``
            for Python objects, where None is null.
        sent_as: ``f4`` or ``f2`` for numbers that the caller sent in single or half precision.
    """

    names: tuple[str, ...]
    dtypes: tuple[str, ...]
    sent_as: str = DOUBLE

    @classmethod
    def of_floats(cls, names: tuple[str, ...], sent_as: str = DOUBLE) -> Shape:
        """Give the shape of rows that are all ``float64``."""
        return cls(names, (DOUBLE,) * len(names), sent_as)

    @cached_property
    def all_floats(self) -> bool:
        """True when every column is ``float64``, so that the rows are one matrix."""
        return all(dtype == DOUBLE for dtype in self.dtypes)

    @cached_property
    def packed(self) -> bool:
        """True when every value has a fixed size, so that a row is packed into bytes."""
        return OBJECT not in self.dtypes

    @cached_property
    def row_dtype(self) -> np.dtype[Any]:
        """The numpy type of one packed row."""
        return np.dtype([(f"f{place}", dtype) for place, dtype in enumerate(self.dtypes)])


class Rows(msgspec.Struct, frozen=True):
    """
    The checked rows of one request.

    Attributes:
        packed: The bytes of all rows, each of ``shape.row_dtype``, if the shape is packed; else empty.
        objects: One sequence of values per row, if the shape is not packed.
    """

    shape: Shape
    count: int
    packed: bytes = b""
    objects: Sequence[Sequence[Any]] = ()


@dataclass(frozen=True, eq=False)
class Frame:
    """A batch: one numpy array per feature, in the order of ``shape.names``."""

    shape: Shape
    columns: tuple[NDArray[Any], ...]
    floats: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.columns[0])

    @cached_property
    def matrix(self) -> NDArray[Any]:
        """
        The batch as one array of shape (rows, columns).

        Its type is the common type of the columns; without a common type, ``object`` with dates as ``datetime``.
        """
        if self.floats is not None:
            return self.floats
        return stacked(self.columns)

    @cached_property
    def logged(self) -> NDArray[np.float64] | tuple[NDArray[Any], ...]:
        """The features for the prediction log: one matrix if all are ``float64``, else one column per feature."""
        if self.floats is not None:
            return self._as_sent(self.floats)
        return tuple(_logged(self._as_sent(column)) for column in self.columns)

    def part(self, rows: slice | list[int]) -> Frame:
        """Give some of the rows."""
        floats = None if self.floats is None else self.floats[rows]
        return Frame(self.shape, tuple(column[rows] for column in self.columns), floats)

    def table(self) -> Table:
        """Give the features as a :class:`~mendel.values.Table`, in which every number is ``float64``."""
        if self.floats is not None:
            return Table(dict(zip(self.shape.names, self._as_sent(self.floats).T, strict=True)))
        columns = map(_counted, map(self._as_sent, self.columns))
        return Table(dict(zip(self.shape.names, columns, strict=True)))

    def _as_sent(self, values: NDArray[Any]) -> NDArray[Any]:
        if self.shape.sent_as == DOUBLE or values.dtype != np.float64:
            return values
        with np.errstate(over="ignore"):
            narrow = values.astype(self.shape.sent_as)
        return np.where(narrow == values, shortest_decimals(narrow), values)


def _frame_of_floats(shape: Shape, matrix: NDArray[np.float64]) -> Frame:
    return Frame(shape, tuple(matrix.T), matrix)


def assemble(parts: Sequence[Rows]) -> Frame:
    """Join the rows of *parts*, which all have the same shape, in order."""
    shape = parts[0].shape
    if shape.packed:
        buffer = bytearray().join(part.packed for part in parts)
        if shape.all_floats:
            return _frame_of_floats(shape, np.frombuffer(buffer, dtype=np.float64).reshape(-1, len(shape.names)))
        packed = np.frombuffer(buffer, dtype=shape.row_dtype)
        return Frame(shape, tuple(np.ascontiguousarray(packed[name]) for name in shape.row_dtype.names or ()))
    by_column = zip(*(row for part in parts for row in part.objects), strict=True)
    return Frame(shape, tuple(_column(values, dtype) for values, dtype in zip(by_column, shape.dtypes, strict=True)))


def objects(values: Sequence[Any]) -> NDArray[Any]:
    """Make a column of type ``object`` whose elements are *values*; a list stays one element."""
    return np.fromiter(values, dtype=object, count=len(values))


def _column(values: Sequence[Any], dtype: str) -> NDArray[Any]:
    if dtype == OBJECT:
        return objects(values)
    if dtype.startswith("f"):
        return np.array([np.nan if value is None else value for value in values], dtype=dtype)
    if dtype.startswith("M"):
        return np.array([_NAT if value is None else value for value in values], dtype=np.int64).view(dtype)
    return np.array(values, dtype=dtype)


_NAT: Final = np.iinfo(np.int64).min
"""How numpy stores a missing time."""


def _logged(column: NDArray[Any]) -> NDArray[Any]:
    match column.dtype.kind:
        case "b":
            return column
        case "f":
            return column if column.dtype == np.float64 else shortest_decimals(column)
        case "i" | "u":
            if len(column) and (int(column.max()) > EXACT_TO or int(column.min()) < -EXACT_TO):
                return column.astype(object)
            return column.astype(np.float64)
        case "M":
            return objects([_logged_time(text) for text in np.datetime_as_string(column).tolist()])
        case _:
            return _plain_numbers(objects([_plain(value) for value in column.tolist()]))


def _logged_time(text: str) -> str | None:
    """Give the time with six digits after the second, or with nine if it is more precise."""
    if text == "NaT":
        return None
    return text.removesuffix("000") if len(text.partition(".")[2]) > 6 else text  # noqa: PLR2004 - microseconds


def _counted(column: NDArray[Any]) -> NDArray[Any]:
    if column.dtype.kind in "iu":
        return column.astype(np.float64)
    return column if column.dtype.kind == "b" else _logged(column)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat() if isinstance(value, date) else value


def _plain_numbers(column: NDArray[Any]) -> NDArray[Any]:
    """Convert a column of numbers and nulls to ``float64`` if no number changes; give other columns unchanged."""
    values = column.tolist()
    kinds = {type(value) for value in values} - {type(None)}
    if not kinds or not kinds <= {int, float} or not all(map(is_exact, values)):
        return column
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
