"""Tables of named numpy columns, which ports exchange instead of pandas or polars data frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mendel.errors import ShapeMismatch

Column = NDArray[Any]
EXACT_TO: Final = 2**53
"""Every whole number up to here, negative or positive, is a ``float64``, too."""


def is_exact(value: object) -> bool:
    """Tell whether *value* stays the same as ``float64``; False only for a whole number above 2^53 in magnitude."""
    return not isinstance(value, int) or abs(value) <= EXACT_TO


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """
    Named columns of equal length, in order.

    Numbers are ``float64`` (missing: NaN; a column with a whole number above 2^53 is ``object``), booleans ``bool``,
    times ``int64`` microseconds since 1970, and all other values ``object`` (missing: None). Arrays are shared, not
    copied; do not write to them.

    >>> table = Table({"age": np.array([31.0, 42.0]), "city": np.array(["Ulm", None], dtype=object)})
    >>> len(table), table.names
    (2, ('age', 'city'))
    """

    columns: Mapping[str, Column]

    def __post_init__(self) -> None:
        lengths = {name: len(column) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise ShapeMismatch(f"The columns of the table have different lengths: {lengths}.")

    def __len__(self) -> int:
        return next((len(column) for column in self.columns.values()), 0)

    def __getitem__(self, name: str) -> Column:
        return self.columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.columns)

    def select(self, names: Iterable[str]) -> Table:
        """Give a table of the columns *names* only, in that order."""
        return Table({name: self.columns[name] for name in names})

    def without(self, *names: str) -> Table:
        """Give a table of all columns except *names*."""
        return Table({name: column for name, column in self.columns.items() if name not in names})

    def with_columns(self, columns: Mapping[str, Column]) -> Table:
        """Give a table with *columns* added; a column of the same name is replaced."""
        return Table({**self.columns, **columns})

    def take(self, rows: NDArray[Any]) -> Table:
        """Give a table of the rows selected by *rows*, a numpy mask or an array of positions."""
        return Table({name: column[rows] for name, column in self.columns.items()})

    @classmethod
    def concat(cls, tables: Sequence[Table]) -> Table:
        """
        Give a table of all rows of *tables*.

        A table that lacks a column contributes missing values (NaN or None) to the column.
        """
        present = [table for table in tables if table.columns]
        names = dict.fromkeys(name for table in present for name in table.names)
        return cls({name: _concatenated(name, present) for name in names})


def _concatenated(name: str, tables: Sequence[Table]) -> Column:
    kinds = {t[name].dtype for t in tables if name in t}
    mixed = len(kinds) > 1 or (kinds != {np.dtype(np.float64)} and not all(name in t for t in tables))
    return np.concatenate([_column_or_missing(table, name, mixed=mixed) for table in tables])


def _column_or_missing(table: Table, name: str, *, mixed: bool) -> Column:
    if name not in table:
        return np.full(len(table), None, dtype=object) if mixed else np.full(len(table), np.nan)
    return table[name].astype(object) if mixed else table[name]
