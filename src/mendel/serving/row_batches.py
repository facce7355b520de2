"""Decoded rows, and many requests' rows put together into one array."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendel.values import Table


@dataclass(frozen=True, slots=True)
class Shape:
    """What two requests must have in common to share a batch: columns, and which of them are truth values."""

    names: tuple[str, ...]
    numeric: bool
    booleans: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rows:
    """
    The checked rows of one request.

    Attributes:
        packed: For numeric shapes native float64s, row after row; null is NaN.
        objects: For the others one sequence of values per row; null is None.
    """

    shape: Shape
    count: int
    packed: bytes = b""
    objects: Sequence[Sequence[Any]] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A batch: ``matrix`` has shape (rows, columns) and is ``float64``, or ``object`` where a column is not numeric."""

    shape: Shape
    matrix: NDArray[Any]

    def __len__(self) -> int:
        return len(self.matrix)

    @property
    def plain(self) -> bool:
        """Whether the float matrix says everything there is to say."""
        return self.shape.numeric and not self.shape.booleans

    def columns(self) -> tuple[NDArray[Any], ...]:
        """One array per feature as :class:`~mendel.values.Table` holds them."""
        return tuple(self._column(place, name) for place, name in enumerate(self.shape.names))

    def table(self) -> Table:
        """The features by name."""
        return Table(dict(zip(self.shape.names, self.columns(), strict=True)))

    def _column(self, place: int, name: str) -> NDArray[Any]:
        column = self.matrix[:, place]
        if name in self.shape.booleans:
            return truth_values(column)
        return column if self.shape.numeric else numbers_where_numeric(column)


def assemble(parts: Sequence[Rows]) -> Frame:
    """One frame of the rows of *parts*, which have one shape."""
    shape = parts[0].shape
    if shape.numeric:
        buffer = bytearray().join(part.packed for part in parts)
        return Frame(shape, np.frombuffer(buffer, dtype=np.float64).reshape(-1, len(shape.names)))
    values = objects([value for part in parts for row in part.objects for value in row])
    return Frame(shape, values.reshape(-1, len(shape.names)))


def objects(values: Sequence[Any]) -> NDArray[Any]:
    """A column of *values* as they are, lists among them included."""
    return np.fromiter(values, dtype=object, count=len(values))


def truth_values(column: NDArray[Any]) -> NDArray[Any]:
    """A column of truth values that came as numbers; with nulls among them, as objects."""
    if column.dtype == object:
        return column if any(value is None for value in column) else column.astype(bool)
    missing = np.isnan(column)
    if not missing.any():
        return column.astype(bool)
    return np.array([None if gone else bool(value) for gone, value in zip(missing, column, strict=True)], dtype=object)


def numbers_where_numeric(column: NDArray[Any]) -> NDArray[Any]:
    """An object column as ``float64`` where every value that is there is a number, else as it is."""
    kinds = {type(value) for value in column}
    if kinds - {type(None)} and kinds <= {int, float, type(None)}:
        return np.array([np.nan if value is None else value for value in column], dtype=np.float64)
    return column
