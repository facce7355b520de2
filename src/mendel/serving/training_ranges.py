"""Find the rows of a batch that lie outside the data that a version was trained on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mendel.drift import MatrixRanges, Reference, input_name
from mendel.serving.row_batches import Frame
from mendel.values import Table


class TrainingRanges:
    """Checks batches against the drift reference of one version, batches of numbers in one step."""

    def __init__(self, reference: Reference) -> None:
        self._reference = reference
        self._latest: tuple[tuple[str, ...], MatrixRanges | None] = ((), None)

    def out_of_range(self, frame: Frame) -> NDArray[np.bool_]:
        """Give a mask of the rows that are outside the training data (out of distribution)."""
        numbers = frame.logged
        if isinstance(numbers, np.ndarray) and (ranges := self._ranges_for(frame.shape.names)) is not None:
            return ranges.outside(numbers)
        columns = frame.table().columns.items()
        return self._reference.out_of_range(Table({input_name(name): column for name, column in columns}))

    def _ranges_for(self, names: tuple[str, ...]) -> MatrixRanges | None:
        known, ranges = self._latest
        if names is not known:
            ranges = self._reference.ranges_of(tuple(map(input_name, names)))
            self._latest = (names, ranges)
        return ranges
