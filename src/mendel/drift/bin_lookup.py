"""Find the cell (histogram bin) of each number of an array."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_STEPS = 4096
_MAX_CUTS_PER_STEP = 4
_CHUNK_ROWS = 32_768


def cell_indexes(cuts: Floats, values: Floats) -> NDArray[np.intp]:
    """
    Count the *cuts* below each of *values*: ``numpy.searchsorted(cuts, values)``, about five times as fast.

    A grid of equal steps over the cuts stores for each step the number of cuts below it, so that a value is compared
    only with the cuts in its own step. The mapping from values to steps is monotone even in floating point, so the
    result is exact. With few rows, or many cuts in one step, numpy's search is used.

    Args:
        cuts: Strictly increasing, finite.
        values: Finite.
    """
    low, high = (cuts[1], cuts[-2]) if len(cuts) > 3 else (0.0, 0.0)  # noqa: PLR2004 - the outer cuts may be far away
    with np.errstate(over="ignore"):
        scale = (_STEPS - 2) / (high - low) if high > low else np.inf
    if len(values) < _STEPS or not 0 < scale < np.inf:
        return np.searchsorted(cuts, values)
    steps_of_cuts = _steps(cuts, low, scale)
    per_step = int(np.bincount(steps_of_cuts).max())
    if per_step > _MAX_CUTS_PER_STEP:
        return np.searchsorted(cuts, values)
    below_step = np.searchsorted(steps_of_cuts, np.arange(_STEPS)).astype(np.int32)
    guarded = np.append(cuts, np.inf)
    placed = np.empty(len(values), dtype=np.intp)
    for start in range(0, len(values), _CHUNK_ROWS):
        chunk = values[start : start + _CHUNK_ROWS]
        cells = below_step[_steps(chunk, low, scale)]
        for _ in range(per_step):
            cells += chunk > guarded[cells]
        placed[start : start + _CHUNK_ROWS] = cells
    return placed


def _steps(values: Floats, low: float, scale: float) -> NDArray[np.int32]:
    with np.errstate(over="ignore"):
        return np.clip((values - low) * scale + 1, 0, _STEPS - 1).astype(np.int32)
