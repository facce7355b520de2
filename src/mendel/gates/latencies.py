"""Compare the latency of two versions that were timed in the same rounds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mendel.values import Measured, Measurement, NotMeasured

CONFIDENCE = 0.99
"""The one-sided confidence level of each bound of a ratio."""


def latency_ratio(candidate_ms: Sequence[float], production_ms: Sequence[float]) -> Measurement:
    """
    Compare two versions that were timed in the same rounds: the median of the rounds' ratios, with bounds.

    A round is one pair of p95s measured at the same time, so that a machine that is slow for a while is slow for both.
    The bounds are order statistics of the ratios, from the sign test: the k-th smallest and the k-th largest, with the
    largest k for which ``P(Binomial(rounds, 1/2) < k) <= 0.01``. Each contains the true median with 99 % confidence for
    any noise distribution, if rounds are independent (Conover, Practical Nonparametric Statistics, 3rd edition, section
    3.2).

    Args:
        candidate_ms: The candidate's p95 in each round, above 0.
        production_ms: Production's p95 in the same rounds, in the same order.

    Returns:
        The ratio candidate / production; ``samples`` counts rounds. Not measured with fewer than 7 rounds, which have
        no bounds at 99 %.

    One round that is six times as slow does not change the result:

    >>> latency_ratio([1.0] * 14 + [6.0], [1.0] * 15)
    Measured(value=1.0, samples=15, low=1.0, high=1.0)
    """
    rounds, need = min(len(candidate_ms), len(production_ms)), math.ceil(-math.log2(1 - CONFIDENCE))
    if rounds < need or len(candidate_ms) != len(production_ms):
        return NotMeasured(reason="too few side-by-side latency measurements of both versions", have=rounds, need=need)
    if min(*candidate_ms, *production_ms) <= 0:
        return NotMeasured(reason="a measured latency is 0 ms")
    ratios = np.sort(np.asarray(candidate_ms) / np.asarray(production_ms))
    outer = _rank(rounds) - 1
    return Measured(
        value=float(np.median(ratios)), samples=rounds, low=float(ratios[outer]), high=float(ratios[rounds - 1 - outer])
    )


def median_ms(rounds_ms: Sequence[float]) -> Measurement:
    """Give the median over the rounds of a version's p95, in milliseconds."""
    if not rounds_ms:
        return NotMeasured(reason="no p95 latency was measured", have=0, need=1)
    return Measured(value=float(np.median(rounds_ms)), samples=len(rounds_ms))


def _rank(rounds: int) -> int:
    """Give the rank k of the bounds: the largest k with P(fewer than k heads in *rounds* fair coin tosses) <= 0.01."""
    below, rank = 0.0, 0
    while (below := below + math.comb(rounds, rank) / 2**rounds) <= 1 - CONFIDENCE:
        rank += 1
    return rank
