"""
Each statistic once, over two count vectors on a shared ordered support.

Two raw samples become such vectors by :func:`pool`: their support is the values that occur, and nothing is lost. Two
profiles share the cells of their reference; each docstring says what that costs.
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
class Tested:
    """A test statistic, and how probable one as large is where nothing has changed."""

    statistic: float
    p_value: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pooled:
    """Two samples as counts of each value that occurs in either; ``support`` grows strictly."""

    support: Floats
    reference: Floats
    current: Floats


def pool(reference: ArrayLike, current: ArrayLike) -> Pooled:
    """
    Turn two samples of numbers into counts on their pooled values.

    >>> pooled = pool([1.0, 2.0, 2.0], [2.0, 5.0])
    >>> pooled.support.tolist(), pooled.reference.tolist(), pooled.current.tolist()
    ([1.0, 2.0, 5.0], [1.0, 2.0, 0.0], [0.0, 1.0, 1.0])
    """
    before, after = np.asarray(reference, dtype=np.float64), np.asarray(current, dtype=np.float64)
    support, where = np.unique(np.concatenate([before, after]), return_inverse=True)
    return Pooled(
        support=support,
        reference=np.bincount(where[: len(before)], minlength=len(support)).astype(np.float64),
        current=np.bincount(where[len(before) :], minlength=len(support)).astype(np.float64),
    )


def kolmogorov_smirnov(reference: ArrayLike, current: ArrayLike) -> Tested:
    """
    Test whether two windows come of one continuous distribution, by the largest gap between their shares so far.

        D = max_b | F_reference(b) - F_current(b) |,    p = Q_KS(D * sqrt(n m / (n + m)))

    Between cells of a profile the gap cannot be seen: D is then too small by at most the larger share that one cell
    holds, here about 1/64, and the p-value too large, never too small. Ties act the same way.

    Args:
        reference: Counts per cell in ascending order, shape ``(cells,)``, each >= 0.
        current: Counts over the same cells.

    Returns:
        D in [0, 1] and its two-sided asymptotic p-value (Smirnov 1948), good from about 50 rows each.

    Raises:
        ShapeMismatch: The windows have different numbers of cells.
        EmptyWindow: A window holds no observation.

    >>> kolmogorov_smirnov([50, 50, 0], [0, 50, 50]).statistic
    0.5
    """
    from scipy.special import kolmogorov  # noqa: PLC0415 - half a second that serving need not pay

    before, after = _pair(reference, current)
    n, m = float(before.sum()), float(after.sum())
    gap = float(np.abs(np.cumsum(before) / n - np.cumsum(after) / m).max())
    return Tested(statistic=gap, p_value=float(kolmogorov(gap * math.sqrt(n * m / (n + m)))))


def chi_square(reference: ArrayLike, current: ArrayLike) -> Tested:
    """
    Test whether two windows come of one distribution over categories (Pearson 1900, without Yates's correction).

        X2 = sum over windows and cells of (observed - expected)^2 / expected,    df = cells - 1

    Cells that are empty in both windows do not count. Where expected counts are small the p-value is rough:
    :func:`pool_sparse` first.

    Args:
        reference: Counts per cell, shape ``(cells,)``, each >= 0.
        current: Counts over the same cells.

    Returns:
        X2 >= 0 and its p-value; 0 and 1 where only one cell is filled.

    Raises:
        ShapeMismatch: The windows have different numbers of cells.
        EmptyWindow: A window holds no observation.

    >>> chi_square([90, 10], [70, 30]).statistic
    12.5
    """
    from scipy.special import chdtrc  # noqa: PLC0415 - half a second that serving need not pay

    observed = np.stack(_pair(reference, current))
    observed = observed[:, observed.sum(axis=0) > 0]
    expected = observed.sum(axis=1, keepdims=True) * observed.sum(axis=0, keepdims=True) / observed.sum()
    statistic = float(((observed - expected) ** 2 / expected).sum())
    freedom = observed.shape[1] - 1
    return Tested(statistic=statistic, p_value=float(chdtrc(freedom, statistic)) if freedom else 1.0)


def pool_sparse(reference: ArrayLike, current: ArrayLike, *, expected: float = 5.0) -> tuple[Floats, Floats]:
    """
    Put cells whose expected count is below *expected* in either window into one: chi-square then holds (Cochran 1954).

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
    Measure how far the mass of *reference* must travel to become *current*, in units of *scale*.

        W1 = integral | F_reference(x) - F_current(x) | dx

    On profiles the mass of a cell stands at its mean, separately in each window, so that a changed unit is seen in full
    even where it throws everything into one cell. The error is at most the sum over cells and windows of share times
    half the distance between minimum and maximum.

    Args:
        support: Where the mass stands, ascending, shape ``(points,)``.
        reference: Counts at these points, each >= 0.
        current: Counts at the same points.
        scale: What counts as one: the reference's standard deviation makes effects of features comparable.

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
        raise ShapeMismatch(f"There are {len(points)} points, but counts at {len(before)}.")
    if not scale > 0:
        raise InvalidValue(f"A distance cannot be measured in units of {scale}.")
    ahead = np.cumsum(before / before.sum() - after / after.sum())[:-1]
    with np.errstate(over="ignore"):
        return float(np.abs(ahead) @ np.diff(points) / scale)


def jensen_shannon(reference: ArrayLike, current: ArrayLike) -> float:
    """
    Measure how different two windows are, symmetrically and bounded.

        JS = sqrt((KL(p || m) + KL(q || m)) / 2),    m = (p + q) / 2

    On profiles it is too small by what happens inside cells.

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
    Measure how surprising *current* is to somebody who expects *reference* (Kullback and Leibler 1951).

        KL(q || p) = sum_b q_b * ln(q_b / p_b)

    A sample of an unchanged distribution does not score 0: subtract :func:`divergence_bias`.

    Args:
        reference: Counts per cell, shape ``(cells,)``, each >= 0.
        current: Counts over the same cells.
        floor: Smallest share that the reference may have in a cell, a fraction in (0, 1); without one, a single row in
            a new cell would score infinity.

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
    What KL divergence scores on average when *samples* rows are drawn from the reference itself (Miller 1955).

        (cells - 1) / (2 * samples)

    >>> divergence_bias(65, 100)
    0.32
    """
    return (cells - 1) / (2 * samples)


def population_stability_index(reference: ArrayLike, current: ArrayLike, *, floor: float = 1e-4) -> float:
    """
    Measure how far *current* has moved from *reference*, bin by bin.

        PSI = sum_b (q_b - p_b) * ln(q_b / p_b)

    It grows with the number of bins: the usual thresholds (0.1, 0.2) are meant for about ten.

    Args:
        reference: Counts per bin, shape ``(bins,)``, each >= 0.
        current: Counts over the same bins, shape ``(bins,)``.
        floor: Smallest share a bin may have, a fraction in (0, 1). Empty bins are raised to it, so a threshold means
            something only together with it.

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
    Where to cut an ordered support so that each group of neighbours holds about ``1 / groups`` of the reference.

    Returns:
        The first cell of each group, ascending from 0: what ``numpy.add.reduceat`` takes. Never more than *groups*;
        fewer where single cells hold more than their part.

    >>> coarsen([0, 25, 25, 25, 25, 0], groups=2).tolist()
    [0, 3]
    """
    counts = np.asarray(reference, dtype=np.float64)
    middle = (np.cumsum(counts) - counts / 2) / counts.sum()
    group = np.minimum((middle * groups).astype(np.int64), groups - 1)
    return np.flatnonzero(np.diff(group, prepend=-1))


def benjamini_hochberg(p_values: Sequence[float]) -> tuple[float, ...]:
    """
    Correct p-values of many tests so that rejecting those below alpha keeps the share of false ones below alpha.

        q_(i) = min over j >= i of p_(j) * m / j

    Holds for independent and positively dependent tests (Benjamini and Hochberg 1995; Benjamini and Yekutieli 2001).

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
        raise ShapeMismatch(f"Counts of shapes {before.shape} and {after.shape} are not over one row of cells.")
    if (before < 0).any() or (after < 0).any():
        raise InvalidValue("Counts cannot be below 0.")
    for name, counts in (("reference", before), ("current window", after)):
        if not counts.sum() > 0:
            raise EmptyWindow(f"The {name} holds no observation.")
    return before, after


def _shares(reference: ArrayLike, current: ArrayLike) -> tuple[Floats, Floats]:
    before, after = _pair(reference, current)
    return before / before.sum(), after / after.sum()


def _floor(floor: float) -> float:
    if not 0 < floor < 1:
        raise InvalidValue(f"{floor} is no smallest share of a cell.", remedy="Use a fraction above 0, such as 1e-4.")
    return floor


def _divergence(q: Floats, p: Floats) -> float:
    held = q > 0
    return float((q[held] * np.log(q[held] / p[held])).sum())
