from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.gates import latency_ratio
from mendel.values import Measured, NotMeasured

ROUNDS = st.lists(st.floats(0.01, 1000), min_size=7, max_size=40)


def binomial_below(rounds: int, rank: int) -> float:
    return sum(math.comb(rounds, heads) for heads in range(rank)) / 2**rounds


@pytest.mark.parametrize(("rounds", "rank"), [(7, 1), (10, 1), (11, 2), (15, 3), (20, 5)])
def test_bounds_are_the_order_statistics_of_the_sign_test(rounds, rank):
    """The ranks agree with the table of the binomial distribution at 1 %."""
    assert binomial_below(rounds, rank) <= 0.01 < binomial_below(rounds, rank + 1)
    found = latency_ratio([float(place) for place in range(1, rounds + 1)], [1.0] * rounds)
    assert found == Measured(value=(rounds + 1) / 2, samples=rounds, low=float(rank), high=float(rounds + 1 - rank))


@pytest.mark.parametrize("rounds", [0, 1, 6])
def test_too_few_rounds_measure_nothing(rounds):
    """Without bounds at 99 % there is no ratio, and the reason says how many rounds are missing."""
    found = latency_ratio([1.0] * rounds, [1.0] * rounds)
    assert isinstance(found, NotMeasured)
    assert (found.have, found.need) == (rounds, 7)


def test_rounds_of_one_version_only_measure_nothing():
    """Versions that were timed in other rounds were not timed side by side."""
    assert isinstance(latency_ratio([1.0] * 15, [1.0] * 14), NotMeasured)


@given(ROUNDS, st.floats(0.1, 10))
def test_a_ratio_does_not_depend_on_the_speed_of_the_machine(rounds, speed):
    """A machine that is slower for both versions, in any round, changes nothing."""
    before = latency_ratio([2 * p95 for p95 in rounds], rounds)
    after = latency_ratio([2 * p95 * speed for p95 in rounds], [p95 * speed for p95 in rounds])
    for found in (before, after):
        assert isinstance(found, Measured)
        assert np.allclose([found.value, found.low, found.high], 2.0)
