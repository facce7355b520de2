"""Time the single-row latency of several versions side by side on a machine that also does other work."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

Ask = Callable[[], object]
"""Calls a version with one row."""

_ROUNDS = 15
_ROUNDS_ALONE = 3
_TRIES = 3
_MOST_ROWS = 60
_BUDGET_SECONDS = 10.0
_PERCENT = 95


def timed_rounds(
    versions: Sequence[Callable[[int], Ask]],
    *,
    rows: int,
    tell: Callable[[str, float], None],
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[tuple[float, ...], ...]:
    """
    Time single rows of every version in turn, in 15 rounds; a version alone, which is compared with none, in 3 rounds.

    In each round, every version answers each of at most 60 rows three times, and the fastest try counts, because slower
    tries were disturbed by other processes. The next row calls the versions in reverse order (A B, B A, ...), so that
    no version is always second. Slow versions are timed on fewer rows, so that all rounds take about 10 s.

    Args:
        versions: For each version, a function that prepares the call with the row at a position; the preparation is not
            timed.
        rows: The number of rows; the timed rows are spread evenly over them.
        tell: Called with the finished share of the rounds.
        clock: Gives seconds, like :func:`time.perf_counter`.

    Returns:
        For each version its p95 over the rows (by nearest rank) in each round, in ms; empty without rows.
    """
    if not rows:
        return ((),) * len(versions)
    timed = _spread(rows, _affordable(versions, clock))
    asks = [[ready(row) for ready in versions] for row in timed]
    found: list[list[float]] = [[] for _ in versions]
    rounds = _ROUNDS if len(versions) > 1 else _ROUNDS_ALONE
    for turn in range(rounds):
        tell("timing", turn / rounds)
        best = [[0.0] * len(asks) for _ in versions]
        for place, row in enumerate(asks):
            order = range(len(row)) if (turn + place) % 2 == 0 else reversed(range(len(row)))
            for version in order:
                best[version][place] = min(_seconds(row[version], clock) for _ in range(_TRIES))
        for version, seconds in enumerate(best):
            found[version].append(_p95(seconds) * 1000)
    return tuple(tuple(rounds) for rounds in found)


def _affordable(versions: Sequence[Callable[[int], Ask]], clock: Callable[[], float]) -> int:
    """Estimate how many rows fit into the time, at least one; each version's first call is its warm-up."""
    first = [ready(0) for ready in versions]
    once = sum(min(_seconds(ask, clock) for _ in range(_TRIES)) for ask in first)
    return max(1, min(_MOST_ROWS, int(_BUDGET_SECONDS / (_ROUNDS * _TRIES * max(once, 1e-9)))))


def _spread(rows: int, count: int) -> list[int]:
    """Give at most *count* positions, spread evenly over *rows*."""
    count = min(rows, count)
    return [place * rows // count for place in range(count)]


def _seconds(ask: Ask, clock: Callable[[], float]) -> float:
    began = clock()
    ask()
    return clock() - began


def _p95(seconds: Sequence[float]) -> float:
    return sorted(seconds)[math.ceil(len(seconds) * _PERCENT / 100) - 1]
