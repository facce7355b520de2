"""The checked rows of a request, and the frame that combines the rows of several requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendel.values import Table


@dataclass(frozen=True, slots=True)
class Shape:
    """
    The columns of a request; only requests of equal shape share a batch.

    ``numeric`` is True when all columns are numbers or booleans; ``booleans`` names the boolean columns.
    """

    names: tuple[str, ...]
    numeric: bool
    booleans: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rows:
    """
    The checked rows of one request.

    Attributes:
        count: The number of rows.
        packed: The values of a numeric shape as native ``float64``, row by row; null is NaN. Empty for other shapes.
        objects: The values of any other shape, one sequence per row; null is None. Empty for numeric shapes.
    """

    shape: Shape
    count: int
    packed: bytes = b""
    objects: Sequence[Sequence[Any]] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """
    The rows of a batch.

    ``matrix`` has the shape (rows, columns) and the dtype ``float64`` if ``shape.numeric``, else ``object``.
    """

    shape: Shape
    matrix: NDArray[Any]

    def __len__(self) -> int:
        return len(self.matrix)

    @property
    def plain(self) -> bool:
        """True when all columns are numbers, so that ``matrix`` needs no conversion of booleans or objects."""
        return self.shape.numeric and not self.shape.booleans

    def columns(self) -> tuple[NDArray[Any], ...]:
        """Give one array per feature, with the dtypes of :class:`~mendel.values.Table`."""
        return tuple(self._column(place, name) for place, name in enumerate(self.shape.names))

    def table(self) -> Table:
        """Give the rows as a table."""
        return Table(dict(zip(self.shape.names, self.columns(), strict=True)))

    def _column(self, place: int, name: str) -> NDArray[Any]:
        column = self.matrix[:, place]
        if name in self.shape.booleans:
            return truth_values(column)
        return column if self.shape.numeric else numbers_where_numeric(column)


def assemble(parts: Sequence[Rows]) -> Frame:
    """Combine the rows of *parts*, which must have equal shapes, into one frame."""
    shape = parts[0].shape
    if shape.numeric:
        buffer = bytearray().join(part.packed for part in parts)
        return Frame(shape, np.frombuffer(buffer, dtype=np.float64).reshape(-1, len(shape.names)))
    values = objects([value for part in parts for row in part.objects for value in row])
    return Frame(shape, values.reshape(-1, len(shape.names)))


def objects(values: Sequence[Any]) -> NDArray[Any]:
    """Make a one-dimensional ``object`` array of *values*; a list among the values stays one element."""
    return np.fromiter(values, dtype=object, count=len(values))


def truth_values(column: NDArray[Any]) -> NDArray[Any]:
    """Convert a column of 0 and 1 to ``bool``; to ``object`` with True, False and None if values are missing."""
    if column.dtype == object:
        return column if any(value is None for value in column) else column.astype(bool)
    missing = np.isnan(column)
    if not missing.any():
        return column.astype(bool)
    return np.array([None if gone else bool(value) for gone, value in zip(missing, column, strict=True)], dtype=object)


def numbers_where_numeric(column: NDArray[Any]) -> NDArray[Any]:
    """Convert an ``object`` column of numbers and None to ``float64`` with NaN; give any other column unchanged."""
    kinds = {type(value) for value in column}
    if kinds - {type(None)} and kinds <= {int, float, type(None)}:
        return np.array([np.nan if value is None else value for value in column], dtype=np.float64)
    return column
