"""One feature of a reference: which cells it has, and what fell into them in training."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendel.drift.feature_counts import Cells, Counts, Floats, as_numbers, category, count_numbers, tally

QUANTILE_BINS = 64
MAX_CATEGORIES = 256
MAX_CELLS = MAX_CATEGORIES + 2
_UNIT_BITS = 30


class FeatureType(StrEnum):
    """How a feature is watched."""

    NUMBER = "number"
    CATEGORY = "category"


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberFeature:
    """
    A number: 64 quantile bins of the reference, then below, above, null and non-finite.

    Quantiles that coincide become point masses: a cell that holds one value only, so that a feature with few values, or
    with many zeros, is compared exactly.

    ``mean`` and ``std`` are of the finite values, None where there is none. ``output`` marks what the model answered,
    in contrast to what it was asked.
    """

    name: str
    output: bool
    cuts: tuple[float, ...]
    mean: float | None
    std: float | None
    cells: Cells

    @classmethod
    def fit(cls, name: str, column: NDArray[Any], *, output: bool) -> NumberFeature:
        """Choose the cells by the quantiles of *column*, and count it into them."""
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
            # counted in order, so that the same rows give the same sums whatever their order was
            cells=count_numbers(cuts, np.sort(numbers), unit=_unit(cuts)),
        )

    @property
    def size(self) -> int:
        """How many cells there are."""
        return len(self.cuts) + 3

    @property
    def null_cell(self) -> int:
        """The cell that nulls are counted in."""
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
        """Whether the reference has a null here."""
        return bool(self.cells.counts[self.null_cell] > 0)

    def count(self, column: NDArray[Any]) -> Cells:
        """Count *column* into the cells."""
        cuts = np.array(self.cuts)
        return count_numbers(cuts, as_numbers(self.name, column), unit=_unit(cuts))


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryFeature:
    """
    A category: one cell for each category of the reference, then other and null.

    Beyond the 256 most frequent ones, categories of the reference itself count as other. ``output`` is as in
    :class:`NumberFeature`.
    """

    name: str
    output: bool
    categories: tuple[str, ...]
    cells: Cells

    @classmethod
    def fit(cls, name: str, column: NDArray[Any], *, output: bool) -> CategoryFeature:
        """Take the categories that *column* has, and count it into them."""
        found = tally(column)
        frequent = sorted((key for key in found if key is not None), key=lambda key: (-found[key], key))
        categories = tuple(sorted(frequent[:MAX_CATEGORIES]))
        unfilled = cls(name=name, output=output, categories=categories, cells=Cells.empty(len(categories) + 2))
        return cls(name=name, output=output, categories=categories, cells=unfilled.count(column))

    @property
    def size(self) -> int:
        """How many cells there are."""
        return len(self.categories) + 2

    @property
    def null_cell(self) -> int:
        """The cell that nulls are counted in."""
        return self.size - 1

    @property
    def complete(self) -> bool:
        """Whether every category of the reference has a cell of its own."""
        return bool(self.cells.counts[-2] == 0)

    @property
    def holds_null(self) -> bool:
        """Whether the reference has a null here."""
        return bool(self.cells.counts[self.null_cell] > 0)

    def count(self, column: NDArray[Any]) -> Cells:
        """Count *column* into the cells."""
        found = tally(column)
        null = found.pop(None, 0)
        known = [found.pop(key, 0) for key in self.categories]
        counts: Counts = np.array([*known, sum(found.values()), null], dtype=np.int64)
        return Cells.of_counts(counts)

    def outside(self, column: NDArray[Any]) -> NDArray[np.bool_]:
        """
        Which rows hold an unseen category, or are null where the reference has none.

        Where the reference had more categories than cells, it cannot be said which are unseen, and none is.
        """
        seen: set[str | None] = set(self.categories)
        if self.holds_null:
            seen.add(None)
        keys = map(category, column.tolist())
        if self.complete:
            return np.fromiter((key not in seen for key in keys), dtype=np.bool_, count=len(column))
        return np.fromiter((key is None and not self.holds_null for key in keys), dtype=np.bool_, count=len(column))


Feature = NumberFeature | CategoryFeature


def infer_type(column: NDArray[Any]) -> FeatureType:
    """A number when every value that is there is one, and not a truth value; else a category."""
    if column.dtype != object:
        return FeatureType.NUMBER if column.dtype.kind in "iuf" else FeatureType.CATEGORY
    kinds = {type(value) for value in column.tolist()} - {type(None)}
    numeric = all(issubclass(kind, int | float | np.number) and kind is not bool for kind in kinds)
    return FeatureType.NUMBER if numeric and kinds else FeatureType.CATEGORY


def _cuts(ordered: Floats) -> Floats:
    """
    Bounds of the cells ``(cut, next cut]`` by quantiles of *ordered*, which is sorted and finite.

    The first is just below the minimum. A value that is more than one quantile gets a cut just below it as well.
    """
    if not len(ordered):
        return np.zeros(1)
    ranks = np.ceil(np.arange(QUANTILE_BINS + 1) / QUANTILE_BINS * len(ordered)).astype(np.int64) - 1
    edges, times = np.unique(ordered[np.maximum(ranks, 0)] + 0.0, return_counts=True)
    masses = edges[times > 1]
    below = np.nextafter(np.append(masses, edges[0]), -np.inf)
    return np.unique(np.concatenate([below, masses, edges[1:]]))


def _unit(cuts: Floats) -> float:
    """The power of two that sums are rounded to: about a billionth of the largest value of the reference."""
    _, exponent = math.frexp(max(abs(float(cuts[0])), abs(float(cuts[-1])), 1e-200))
    return math.ldexp(1.0, exponent - _UNIT_BITS)
