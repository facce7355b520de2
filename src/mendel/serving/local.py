"""Counters and breakers of a server that is one process."""

from __future__ import annotations

from collections.abc import Mapping

from mendel.serving.ports import Series


class LocalCounters:
    """``CounterSlots`` in this process's memory."""

    def __init__(self) -> None:
        self._cells: list[int] = []
        self._places: dict[Series, tuple[int, int]] = {}

    def reserve(self, series: Series, width: int = 1) -> int:
        """The first cell of *series*."""
        if series not in self._places:
            self._places[series] = (len(self._cells), width)
            self._cells.extend([0] * width)
        return self._places[series][0]

    def add(self, cell: int, amount: int = 1) -> None:
        """Add *amount*."""
        self._cells[cell] += amount

    def put(self, cell: int, value: int) -> None:
        """Set a gauge."""
        self._cells[cell] = value

    def totals(self) -> Mapping[Series, tuple[int, ...]]:
        """Every series."""
        return {series: tuple(self._cells[at : at + width]) for series, (at, width) in self._places.items()}
