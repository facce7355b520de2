"""Count rows into the cells of one feature; the counts of two sets of rows can be added."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendel.drift.bin_lookup import cell_indexes
from mendel.errors import InvalidValue

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

_LARGEST = float(np.finfo(np.float64).max)


@dataclass(frozen=True, slots=True, kw_only=True)
class CellsDocument:
    """
    The cells of a feature as JSON, without empty cells.

    ``at`` lists the positions of the cells. ``sums``, ``minima`` and ``maxima`` belong to the first cells of ``at`` and
    may be shorter, because the cells for nulls and non-finite values come last and have none.
    """

    at: tuple[int, ...]
    counts: tuple[int, ...]
    sums: tuple[float, ...] = ()
    minima: tuple[float, ...] = ()
    maxima: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """
    The rows in each cell of a feature: counts, and for numbers also sums, minima and maxima.

    All arrays have one entry per cell. An empty cell has sum 0, minimum +inf and maximum -inf, so that :meth:`total`
    needs no special case. The cells of categories have counts only; their other arrays are those of empty cells.
    """

    counts: Counts
    sums: Floats
    minima: Floats
    maxima: Floats

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cells) and len(self) == len(other) and self.to_document() == other.to_document()

    def __hash__(self) -> int:
        return hash(self.to_document())

    def __len__(self) -> int:
        return len(self.counts)

    @classmethod
    def empty(cls, size: int) -> Cells:
        """Make *size* empty cells."""
        return cls.of_counts(np.zeros(size, dtype=np.int64))

    @classmethod
    def of_counts(cls, counts: Counts) -> Cells:
        """Make cells with counts only."""
        size = len(counts)
        return cls(counts=counts, sums=np.zeros(size), minima=np.full(size, np.inf), maxima=np.full(size, -np.inf))

    @classmethod
    def total(cls, parts: Sequence[Cells]) -> Cells:
        """Add the cells of *parts*, at least one."""
        with np.errstate(over="ignore"):
            sums = np.sum([part.sums for part in parts], axis=0)
        return cls(
            counts=np.sum([part.counts for part in parts], axis=0),
            sums=np.clip(sums, -_LARGEST, _LARGEST),
            minima=np.min([part.minima for part in parts], axis=0),
            maxima=np.max([part.maxima for part in parts], axis=0),
        )

    def means(self) -> Floats:
        """Compute the mean per cell; NaN for an empty cell."""
        means = np.divide(self.sums, self.counts, out=np.full(len(self), np.nan), where=self.counts > 0)
        return np.where(self.counts > 0, np.clip(means, self.minima, self.maxima), np.nan)

    def to_document(self) -> CellsDocument:
        """Convert to a document without empty cells."""
        at = np.flatnonzero(self.counts)
        known = at[self.minima[at] <= self.maxima[at]]
        columns = (at, self.counts[at], self.sums[known], self.minima[known], self.maxima[known])
        listed = [tuple(column.tolist()) for column in columns]
        return CellsDocument(at=listed[0], counts=listed[1], sums=listed[2], minima=listed[3], maxima=listed[4])

    @classmethod
    def from_document(cls, document: CellsDocument, size: int) -> Cells:
        """
        Convert a document of :meth:`to_document` back to cells.

        Raises:
            InvalidValue: The document names cells that the feature does not have, or its columns do not match.
        """
        at, known = np.array(document.at, dtype=np.intp), len(document.sums)
        lengths = {len(document.minima), len(document.maxima), known}
        if len(at) != len(document.counts) or len(lengths) > 1 or known > len(at):
            raise InvalidValue("The profile is invalid: the cell columns of a feature have different lengths.")
        if len(at) and not (at[0] >= 0 and at[-1] < size and (np.diff(at) > 0).all()):
            raise InvalidValue(
                f"The profile is invalid: cell positions {list(document.at)} must increase and stay below {size}."
            )
        cells = cls.empty(size)
        cells.counts[at] = document.counts
        for whole, part in ((cells.sums, document.sums), (cells.minima, document.minima)):
            whole[at[:known]] = part
        cells.maxima[at[:known]] = document.maxima
        if (cells.counts < 0).any():
            raise InvalidValue("The profile is invalid: a cell of a feature has a negative count.")
        return cells


def count_numbers(cuts: Floats, values: Floats, *, unit: float) -> Cells:
    """
    Count *values* into the cells made by *cuts*: below the first, each ``(cut, next cut]``, above, null, non-finite.

    Args:
        cuts: Strictly increasing, shape ``(k,)``; they make ``k + 3`` cells.
        values: Numbers; NaN is null.
        unit: A power of two to which sums are rounded. Sums of such numbers are exact up to ``2**53`` units, so adding
            cells is associative to the last bit, and equal rows give equal profiles in any order.
    """
    size = len(cuts) + 3
    finite = np.isfinite(values)
    if finite.all():
        where = cell_indexes(cuts, values)
    else:
        null, values = np.isnan(values), np.where(finite, values, 0.0)
        where = np.where(finite, cell_indexes(cuts, values), np.where(null, size - 2, size - 1))
    minima, maxima = np.full(size, np.inf), np.full(size, -np.inf)
    np.minimum.at(minima, where, values)
    np.maximum.at(maxima, where, values)
    minima[-2:], maxima[-2:] = np.inf, -np.inf
    with np.errstate(over="ignore"):
        sums = np.rint(np.bincount(where, weights=values, minlength=size) / unit) * unit
    return Cells(
        counts=np.bincount(where, minlength=size).astype(np.int64),
        # adding 0.0 turns -0.0 into 0.0: they are equal but have different JSON
        sums=np.clip(np.nan_to_num(sums, nan=0.0), -_LARGEST, _LARGEST) + 0.0,
        minima=minima + 0.0,
        maxima=maxima + 0.0,
    )


def category_name(value: object) -> str | None:
    """
    Give the name of a category; values that storage may convert into each other get the same name. None for null.

    Booleans and whole floats are written as integers, because a data frame converts booleans and integers to floats
    when a column has a null.

    >>> category_name(True), category_name(1.0), category_name("1"), category_name(float("nan"))
    ('1', '1', '1', None)
    """
    if value is None:
        return None
    if isinstance(value, float | np.floating):
        if np.isnan(value):
            return None
        return str(int(value)) if float(value).is_integer() else repr(float(value))
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    return str(value)


def count_categories(column: NDArray[Any]) -> Counter[str | None]:
    """Count each category in *column*; nulls are counted under None."""
    raw: Counter[Any] = Counter(column.tolist())
    named: Counter[str | None] = Counter()
    for value, count in raw.items():
        named[category_name(value)] += count
    return named


def as_numbers(name: str, column: NDArray[Any]) -> Floats:
    """
    Convert *column* to floats, null to NaN.

    Raises:
        InvalidValue: A value is not a number; the message names the feature.
    """
    if column.dtype.kind in "biuf":
        return column.astype(np.float64, copy=False)
    try:
        return np.array([np.nan if value is None else float(value) for value in column.tolist()], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidValue(
            f"Feature {name!r} is numeric in the reference, but the data contain a value that is not a number: {error}."
        ) from error
