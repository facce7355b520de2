"""Timing versions side by side, on a clock that noise makes jump."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from mendel.gates import latency_ratio
from mendel.retraining.replay_timing import timed_rounds
from mendel.values import Measured

TIMESLICE = 0.004


def untold(doing, share):
    """Nobody listens."""


@dataclass
class Machine:
    """
    A machine whose speed drifts, shared with other processes, and with answers of heavy tails.

    ``load`` counts the processes that want the same core: a call is interrupted the more often the longer it is, and
    waits for the timeslices of the others.
    """

    seed: int
    load: float
    now: float = 0.0
    asked: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.drift = 0.0

    def version(self, name, seconds):
        """A version that needs so long for a row on a quiet machine, more for some rows than for others."""

        def ready(row):
            needs = seconds * (1 + (row % 7) / 20)

            def ask():
                self.asked.append((name, row))
                self.drift = 0.999 * self.drift + self.rng.normal(0, 0.02)
                took = needs * np.exp(self.drift) * (1 + 0.05 * abs(self.rng.standard_t(2)))
                if self.rng.random() < took / TIMESLICE * self.load / (1 + self.load):
                    took += self.rng.exponential(TIMESLICE * self.load)
                self.now += took

            return ask

        return ready

    def ratio(self, factor, seconds=0.0007):
        """How many times slower a version is found, that is *factor* times slower."""
        versions = [self.version("candidate", seconds * factor), self.version("production", seconds)]
        candidate, production = timed_rounds(versions, rows=300, tell=untold, clock=lambda: self.now)
        return latency_ratio(candidate, production)


@pytest.mark.parametrize("load", [0, 2, 8])
def test_equal_versions_do_not_fail_on_noise(load):
    """In thirty simulated runs per load no version that is as fast as production is surely 1.5 times as slow."""
    found = [Machine(seed, load).ratio(1.0) for seed in range(30)]
    assert all(isinstance(ratio, Measured) and ratio.low <= 1.5 for ratio in found)


@pytest.mark.parametrize("load", [0, 2, 8])
def test_a_version_twice_as_slow_is_found(load):
    """In every simulated run, on a quiet machine and on a busy one, half the speed is surely below two thirds."""
    found = [Machine(seed, load).ratio(2.0) for seed in range(10)]
    assert all(isinstance(ratio, Measured) and ratio.low > 1.5 for ratio in found)


def test_the_order_of_versions_turns_from_row_to_row_and_from_round_to_round():
    """A row is asked of one version and then of the other; the next row, and the next round, begin with the other."""
    machine = Machine(0, 0)
    machine.ratio(1.0, seconds=0.05)
    blocks = [name for place, (name, _) in enumerate(machine.asked[6:]) if place % 3 == 0]
    rows = len({row for _, row in machine.asked})
    assert rows == 2
    assert blocks[:8] == [
        *("candidate", "production", "production", "candidate"),
        *("production", "candidate", "candidate", "production"),
    ]


def test_slow_versions_are_timed_on_fewer_rows():
    """A version of 10 ms takes about as long to time as one of 1 ms, and one of 1 s is asked for one row only."""
    quick, slow, slowest = Machine(0, 0), Machine(0, 0), Machine(0, 0)
    quick.ratio(1.0, seconds=0.001)
    slow.ratio(1.0, seconds=0.01)
    slowest.ratio(1.0, seconds=1.0)
    assert len({row for _, row in quick.asked}) == 60
    assert 5 < len({row for _, row in slow.asked}) < 15
    assert len({row for _, row in slowest.asked}) == 1


def test_no_rows_no_rounds():
    """Nothing is asked where there is no row, and every version says so."""
    machine = Machine(0, 0)
    versions = [machine.version("a", 1.0), machine.version("b", 1.0)]
    assert timed_rounds(versions, rows=0, tell=untold) == ((), ())
    assert machine.asked == []


@pytest.mark.parametrize(("versions", "rounds"), [(1, 3), (2, 15)])
def test_a_version_alone_is_timed_in_fewer_rounds(versions, rounds):
    """Only versions that are compared need many rounds."""
    ready = [lambda row: lambda: row] * versions
    assert [len(found) for found in timed_rounds(ready, rows=2, tell=untold)] == [rounds] * versions
