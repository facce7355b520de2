"""
The statistics that compare two windows, each over two vectors of counts on a shared ordered support.

Two profiles share the cells of their reference; each docstring states the error that results. Counts of each value that
occurs are exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mendel.errors import EmptyWindow, InvalidValue, ShapeMismatch

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticalTest:
    """A test statistic and its p-value: the probability of a value as large if the distribution has not changed."""

    statistic: float
    p_value: float


def kolmogorov_smirnov(reference: ArrayLike, current: ArrayLike) -> StatisticalTest:
    """
    Test whether two windows have the same continuous distribution, by the largest gap between their cumulative shares.

        D = max_b | F_reference(b) - F_current(b) |,    p = Q_KS(D * sqrt(n m / (n + m)))

    On profiles the gap inside a cell is unknown: D is too small by at most the largest share of a cell, about 1/64, and
    the p-value is too large, never too small. Ties have the same effect.

    Args:
        reference: Counts per cell in ascending order, shape ``(cells,)``, each >= 0.
        current: Counts over the same cells.

    Returns:
        D in [0, 1] and its two-sided asymptotic p-value (Smirnov 1948), accurate from about 50 rows per window.

    Raises:
        ShapeMismatch: The windows have different numbers of cells.
        EmptyWindow: A window holds no observation.

    >>> kolmogorov_smirnov([50, 50, 0], [0, 50, 50]).statistic
    0.5
    """
    from scipy.special import kolmogorov  # noqa: PLC0415 - importing scipy takes half a second; servers do not need it

    before, after = _pair(reference, current)
    n, m = float(before.sum()), float(after.sum())
    gap = float(np.abs(np.cumsum(before) / n - np.cumsum(after) / m).max())
    return StatisticalTest(statistic=gap, p_value=float(kolmogorov(gap * math.sqrt(n * m / (n + m)))))


def chi_square(reference: ArrayLike, current: ArrayLike) -> StatisticalTest:
    """
    Test whether two windows have the same distribution over categories (Pearson 1900, without Yates's correction).

        X2 = sum over windows and cells of (observed - expected)^2 / expected,    df = cells - 1

    Cells that are empty in both windows are ignored. The p-value is inaccurate for small expected counts, so apply
    :func:`pool_sparse` first.

    Args:
        reference: Counts per cell, shape ``(cells,)``, each >= 0.
        current: Counts over the same cells.

    Returns:
        X2 >= 0 and its p-value; 0 and 1 when only one cell has rows.

    Raises:
        ShapeMismatch: The windows have different numbers of cells.
        EmptyWindow: A window holds no observation.

    >>> chi_square([90, 10], [70, 30]).statistic
    12.5
    """
    from scipy.special import chdtrc  # noqa: PLC0415 - importing scipy takes half a second; servers do not need it

    observed = np.stack(_pair(reference, current))
    observed = observed[:, observed.sum(axis=0) > 0]
    expected = observed.sum(axis=1, keepdims=True) * observed.sum(axis=0, keepdims=True) / observed.sum()
    statistic = float(((observed - expected) ** 2 / expected).sum())
    freedom = observed.shape[1] - 1
    return StatisticalTest(statistic=statistic, p_value=float(chdtrc(freedom, statistic)) if freedom else 1.0)


def pool_sparse(reference: ArrayLike, current: ArrayLike, *, expected: float = 5.0) -> tuple[Floats, Floats]:
    """
    Merge all cells whose expected count is below *expected* in either window, as chi-square requires (Cochran 1954).

    >>> before, after = pool_sparse([90, 6, 2, 2], [95, 5, 0, 0])
    >>> before.tolist(), after.tolist()
    ([90.0, 6.0, 4.0], [95.0, 5.0, 0.0])
    """
    before, after = _pair(reference, current)
    smaller = min(before.sum(), after.sum()) / (before.sum() + after.sum())
    sparse = (before + after) * smaller < expected
    if not sparse.any():
        return before, after
    return np.append(before[~sparse], before[sparse].sum()), np.append(after[~sparse], after[sparse].sum())


def wasserstein(support: ArrayLike, reference: ArrayLike, current: ArrayLike, *, scale: float = 1.0) -> float:
    """
    Measure how far the mass of *reference* must move to become *current*, in units of *scale*.

        W1 = integral | F_reference(x) - F_current(x) | dx

    On profiles the mass of a cell is placed at the cell's mean in each window, so that a change of unit is measured
    correctly even when all values fall into one cell. The error is at most the sum, over cells and windows, of the
    cell's share times half the distance between its minimum and maximum.

    Args:
        support: The positions of the mass in ascending order, shape ``(points,)``.
        reference: Counts at these positions, each >= 0.
        current: Counts at the same positions.
        scale: The unit of the distance; the reference's standard deviation makes features comparable.

    Returns:
        The distance, >= 0.

    Raises:
        ShapeMismatch: The vectors differ in length.
        EmptyWindow: A window holds no observation.
        InvalidValue: *scale* is not above 0.

    >>> wasserstein([0.0, 1.0, 3.0], [1, 1, 0], [0, 1, 1])
    1.5
    """
    before, after = _pair(reference, current)
    points = np.asarray(support, dtype=np.float64)
    if points.shape != before.shape:
        raise ShapeMismatch(
            f"The number of support points ({len(points)}) differs from the number of counts ({len(before)})."
        )
    if not scale > 0:
        raise InvalidValue(f"The scale of the Wasserstein distance is {scale}; it must be above 0.")
    ahead = np.cumsum(before / before.sum() - after / after.sum())[:-1]
    with np.errstate(over="ignore"):
        return float(np.abs(ahead) @ np.diff(points) / scale)


def jensen_shannon(reference: ArrayLike, current: ArrayLike) -> float:
    """
    Measure how different two windows are; the distance is symmetric and bounded.

        JS = sqrt((KL(p || m) + KL(q || m)) / 2),    m = (p + q) / 2

    On profiles the distance is too small, because changes inside a cell are not seen.

    Args:
        reference: Counts per cell, shape ``(cells,)``, each >= 0.
        current: Counts over the same cells.

    Returns:
        The distance with natural logarithms, in [0, sqrt(ln 2)] (Endres and Schindelin 2003).

    Raises:
        ShapeMismatch: The windows have different numbers of cells.
        EmptyWindow: A window holds no observation.

    >>> round(jensen_shannon([90, 10], [70, 30]), 4)
    0.1801
    """
    p, q = _shares(reference, current)
    middle = (p + q) / 2
    return math.sqrt(max(0.0, (_divergence(p, middle) + _divergence(q, middle)) / 2))


def kullback_leibler(reference: ArrayLike, current: ArrayLike, *, floor: float = 1e-4) -> float:
    """
    Measure the information in nats that is lost when *reference* approximates *current* (Kullback and Leibler 1951).

        KL(q || p) = sum_b q_b * ln(q_b / p_b)

    The divergence of a sample from an unchanged distribution is not 0 on average: subtract :func:`divergence_bias`.

    Args:
        reference: Counts per cell, shape ``(cells,)``, each >= 0.
        current: Counts over the same cells.
        floor: The smallest share that a cell of the reference counts with, a fraction in (0, 1). With 0, a single row
            in a cell that is empty in the reference would give infinity.

    Returns:
        KL in nats, >= 0.

    Raises:
        ShapeMismatch: The windows have different numbers of cells.
        EmptyWindow: A window holds no observation.

    >>> round(kullback_leibler([90, 10], [70, 30]), 4)
    0.1537
    """
    p, q = _shares(reference, current)
    return max(0.0, _divergence(q, np.maximum(p, _floor(floor))))


def divergence_bias(cells: int, samples: int) -> float:
    """
    Compute the mean KL divergence of *samples* rows that are drawn from the reference itself (Miller 1955).

        (cells - 1) / (2 * samples)

    >>> divergence_bias(65, 100)
    0.32
    """
    return (cells - 1) / (2 * samples)


def population_stability_index(reference: ArrayLike, current: ArrayLike, *, floor: float = 1e-4) -> float:
    """
    Measure how far *current* has moved from *reference*, bin by bin.

        PSI = sum_b (q_b - p_b) * ln(q_b / p_b)

    PSI grows with the number of bins; the usual thresholds (0.1, 0.2) are meant for about ten bins.

    Args:
        reference: Counts per bin, shape ``(bins,)``, each >= 0.
        current: Counts over the same bins, shape ``(bins,)``.
        floor: The smallest share that a bin counts with, a fraction in (0, 1). A threshold for PSI depends on it.

    Returns:
        PSI in nats, >= 0, symmetric in the two windows; 0.0 when they agree.

    Raises:
        ShapeMismatch: The windows have different numbers of bins.
        EmptyWindow: A window holds no observation; PSI is then undefined, not 0.

    >>> round(population_stability_index([90, 10], [70, 30]), 4)
    0.27
    """
    p, q = (np.maximum(share, _floor(floor)) for share in _shares(reference, current))
    return float(((q - p) * np.log(q / p)).sum())


def coarsen(reference: ArrayLike, *, groups: int = 10) -> NDArray[np.int64]:
    """
    Group neighbouring cells so that each group holds about ``1 / groups`` of the reference.

    Returns:
        The first cell of each group, ascending from 0, for ``numpy.add.reduceat``. At most *groups*; fewer when single
        cells hold more than ``1 / groups``.

    >>> coarsen([0, 25, 25, 25, 25, 0], groups=2).tolist()
    [0, 3]
    """
    counts = np.asarray(reference, dtype=np.float64)
    middle = (np.cumsum(counts) - counts / 2) / counts.sum()
    group = np.minimum((middle * groups).astype(np.int64), groups - 1)
    return np.flatnonzero(np.diff(group, prepend=-1))


def benjamini_hochberg(p_values: Sequence[float]) -> tuple[float, ...]:
    """
    Correct the p-values of many tests.

        q_(i) = min over j >= i of p_(j) * m / j

    When the tests with a corrected p-value below alpha are rejected, the expected share of false rejections is below
    alpha, for independent and positively dependent tests (Benjamini and Hochberg 1995; Benjamini and Yekutieli 2001).

    >>> [round(p, 4) for p in benjamini_hochberg([0.01, 0.04, 0.03])]
    [0.03, 0.04, 0.04]
    """
    if not p_values:
        return ()
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return tuple(corrected.tolist())


def _pair(reference: ArrayLike, current: ArrayLike) -> tuple[Floats, Floats]:
    before, after = np.asarray(reference, dtype=np.float64), np.asarray(current, dtype=np.float64)
    if before.shape != after.shape or before.ndim != 1:
        raise ShapeMismatch(
            f"The two count vectors of a drift statistic have different shapes: {before.shape} and {after.shape}."
        )
    if (before < 0).any() or (after < 0).any():
        raise InvalidValue("A drift statistic was given a negative count.")
    for name, counts in (("reference", before), ("current window", after)):
        if not counts.sum() > 0:
            raise EmptyWindow(f"The {name} of a drift statistic contains no observation.")
    return before, after


def _shares(reference: ArrayLike, current: ArrayLike) -> tuple[Floats, Floats]:
    before, after = _pair(reference, current)
    return before / before.sum(), after / after.sum()


def _floor(floor: float) -> float:
    if not 0 < floor < 1:
        raise InvalidValue(
            f"The floor of a cell's share is {floor}; it must be above 0 and below 1.", remedy="Use 1e-4, for example."
        )
    return floor


def _divergence(q: Floats, p: Floats) -> float:
    held = q > 0
    return float((q[held] * np.log(q[held] / p[held])).sum())
