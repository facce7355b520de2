"""Decide whether there are enough labels for a training run, and how its rows are divided."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendel.gates import Bounds
from mendel.retraining.policy import RetrainingPolicy
from mendel.values import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSupply:
    """
    The labels that a run could use, and the labels that it needs.

    Attributes:
        have, need: The number of labelled rows that production was not trained on, and the number needed.
        coverage, need_coverage: The labelled share of the rows predicted since then, and the share needed.
        cooldown: The gates' cooldown after a change of version; a candidate judged within it would fail.
    """

    have: int
    need: int
    coverage: float
    need_coverage: float
    cooldown: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The decision that a run can start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The decision that a run cannot start yet: ``why`` as a sentence, ``have`` and ``need`` as numbers."""

    why: str
    have: float
    need: float


def may_start(supply: LabelSupply) -> Ready | Waiting:
    """
    Decide whether the labels are enough for a run; if not, say what is missing.

    >>> may_start(LabelSupply(have=143, need=200, coverage=1.0, need_coverage=0.3)).why
    'waiting for labels: 143 of 200'
    """
    if supply.have < supply.need:
        why = f"waiting for labels: {supply.have} of {supply.need}"
        return Waiting(why=why, have=supply.have, need=supply.need)
    if supply.coverage < supply.need_coverage:
        why = (
            f"waiting for labels: a share of {supply.coverage:.2f} of the rows is labelled, "
            f"{supply.need_coverage:.2f} is needed"
        )
        return Waiting(why=why, have=supply.coverage, need=supply.need_coverage)
    return Ready()


def labels_needed(policy: RetrainingPolicy, bounds: Bounds) -> int:
    """
    Compute how many labelled rows a run needs, so that its evaluation share satisfies the gates' ``samples``.

    >>> labels_needed(RetrainingPolicy(), Bounds(samples=200))
    400
    """
    return max(policy.min_labels, math.ceil(bounds.samples / policy.evaluation_share))


def usable(rows: Table, *, include_simulated: bool) -> Table:
    """
    Select rows with a real answer: no shadow predictions, no failures, and simulated rows only with
    *include_simulated*.
    """
    if not len(rows):
        return rows
    chosen = ~rows["shadow"].astype(bool) & _absent(rows["error"])
    if not include_simulated:
        chosen &= ~rows["simulated"].astype(bool)
    return rows.take(chosen)


def evaluation_start(event_times: NDArray[np.int64], share: float) -> int:
    """
    Find the position of the first evaluation row: the latest *share* of the rows, without splitting equal times.

    Args:
        event_times: Event times in microseconds, ascending, at least one.

    >>> evaluation_start(np.array([1, 2, 3, 3, 3, 4]), 0.5)
    2
    """
    count = max(1, math.ceil(len(event_times) * share))
    first = event_times[len(event_times) - count]
    return int(np.searchsorted(event_times, first, side="left"))


def _absent(column: NDArray[Any]) -> NDArray[np.bool_]:
    if column.dtype.kind == "f":
        missing: NDArray[np.bool_] = np.isnan(column)
        return missing
    return np.array([value is None for value in column.tolist()], dtype=np.bool_)
