"""The features of a reference: their cells, and the training rows counted into them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendel.drift.feature_counts import (
    Cells,
    Counts,
    Floats,
    as_numbers,
    category_name,
    count_categories,
    count_numbers,
)

QUANTILE_BINS = 64
MAX_CATEGORIES = 256
MAX_CELLS = MAX_CATEGORIES + 2
_UNIT_BITS = 30


class FeatureType(StrEnum):
    """How a feature is monitored: as a number, or as a category."""

    NUMBER = "number"
    CATEGORY = "category"


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberFeature:
    """
    A numeric feature of a reference.

    The cells of the feature are: below the reference's minimum, up to 64 quantile bins, above the maximum, null, and
    non-finite. A value that is several quantiles gets a cell of its own, so that a feature with few distinct values, or
    with many zeros, is compared exactly.

    ``mean`` and ``std`` describe the finite values; None when the reference has no finite value. ``output`` is True for
    a column that holds the model's answers.
    """

    name: str
    output: bool
    cuts: tuple[float, ...]
    mean: float | None
    std: float | None
    cells: Cells

    @classmethod
    def fit(cls, name: str, column: NDArray[Any], *, output: bool) -> NumberFeature:
        """Choose the cells by the quantiles of *column*, and count *column* into them."""
        numbers = as_numbers(name, column)
        ordered = np.sort(numbers[np.isfinite(numbers)])
        cuts = _cuts(ordered)
        some = len(ordered) > 0
        return cls(
            name=name,
            output=output,
            cuts=tuple(cuts.tolist()),
            mean=float(ordered.mean()) if some else None,
            std=float(ordered.std()) if some else None,
            # counted in sorted order, so that equal rows in any order give equal sums
            cells=count_numbers(cuts, np.sort(numbers), unit=_unit(cuts)),
        )

    @property
    def size(self) -> int:
        return len(self.cuts) + 3

    @property
    def null_cell(self) -> int:
        """The position of the cell for nulls."""
        return self.size - 2

    @property
    def low(self) -> float:
        """The smallest finite value of the reference; +inf when it has none."""
        return float(self.cells.minima.min())

    @property
    def high(self) -> float:
        """The largest finite value of the reference; -inf when it has none."""
        return float(self.cells.maxima.max())

    @property
    def holds_null(self) -> bool:
        """True when the reference has a null in this feature."""
        return bool(self.cells.counts[self.null_cell] > 0)

    def count(self, column: NDArray[Any]) -> Cells:
        """Count the values of *column* into this feature's cells."""
        cuts = np.array(self.cuts)
        return count_numbers(cuts, as_numbers(self.name, column), unit=_unit(cuts))


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryFeature:
    """
    A categorical feature of a reference.

    The cells of the feature are: one for each of the reference's 256 most frequent categories, one for all other
    categories, and null. ``output`` is True for a column that holds the model's answers.
    """

    name: str
    output: bool
    categories: tuple[str, ...]
    cells: Cells

    @classmethod
    def fit(cls, name: str, column: NDArray[Any], *, output: bool) -> CategoryFeature:
        """Choose the cells by the categories in *column*, and count *column* into them."""
        found = count_categories(column)
        frequent = sorted((key for key in found if key is not None), key=lambda key: (-found[key], key))
        categories = tuple(sorted(frequent[:MAX_CATEGORIES]))
        unfilled = cls(name=name, output=output, categories=categories, cells=Cells.empty(len(categories) + 2))
        return cls(name=name, output=output, categories=categories, cells=unfilled.count(column))

    @property
    def size(self) -> int:
        return len(self.categories) + 2

    @property
    def null_cell(self) -> int:
        """The position of the cell for nulls."""
        return self.size - 1

    @property
    def complete(self) -> bool:
        """True when every category of the reference has a cell of its own."""
        return bool(self.cells.counts[-2] == 0)

    @property
    def holds_null(self) -> bool:
        """True when the reference has a null in this feature."""
        return bool(self.cells.counts[self.null_cell] > 0)

    def count(self, column: NDArray[Any]) -> Cells:
        """Count the values of *column* into this feature's cells."""
        found = count_categories(column)
        null = found.pop(None, 0)
        known = [found.pop(key, 0) for key in self.categories]
        counts: Counts = np.array([*known, sum(found.values()), null], dtype=np.int64)
        return Cells.of_counts(counts)

    def outside(self, column: NDArray[Any]) -> NDArray[np.bool_]:
        """
        Give a mask of the rows with a category, or a null, that the reference does not have.

        When the reference has more categories than cells, unseen categories cannot be recognised; then only nulls can
        be outside.
        """
        seen: set[str | None] = set(self.categories)
        if self.holds_null:
            seen.add(None)
        keys = map(category_name, column.tolist())
        if self.complete:
            return np.fromiter((key not in seen for key in keys), dtype=np.bool_, count=len(column))
        return np.fromiter((key is None and not self.holds_null for key in keys), dtype=np.bool_, count=len(column))


Feature = NumberFeature | CategoryFeature


def infer_type(column: NDArray[Any]) -> FeatureType:
    """Infer the type: a number when every value except nulls is a number and no boolean; else a category."""
    if column.dtype != object:
        return FeatureType.NUMBER if column.dtype.kind in "iuf" else FeatureType.CATEGORY
    kinds = {type(value) for value in column.tolist()} - {type(None)}
    numeric = all(issubclass(kind, int | float | np.number) and kind is not bool for kind in kinds)
    return FeatureType.NUMBER if numeric and kinds else FeatureType.CATEGORY


def _cuts(ordered: Floats) -> Floats:
    """
    Compute the bounds of the cells ``(cut, next cut]`` from the quantiles of *ordered*, which is sorted and finite.

    The first cut is just below the minimum. A value that is several quantiles gets a cut just below it too.
    """
    if not len(ordered):
        return np.zeros(1)
    ranks = np.ceil(np.arange(QUANTILE_BINS + 1) / QUANTILE_BINS * len(ordered)).astype(np.int64) - 1
    edges, times = np.unique(ordered[np.maximum(ranks, 0)] + 0.0, return_counts=True)
    masses = edges[times > 1]
    below = np.nextafter(np.append(masses, edges[0]), -np.inf)
    return np.unique(np.concatenate([below, masses, edges[1:]]))


def _unit(cuts: Floats) -> float:
    """Give the power of two to which sums are rounded: about a billionth of the reference's largest value."""
    _, exponent = math.frexp(max(abs(float(cuts[0])), abs(float(cuts[-1])), 1e-200))
    return math.ldexp(1.0, exponent - _UNIT_BITS)
