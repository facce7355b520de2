"""Counters and breakers of a server that is one process."""

from __future__ import annotations

from collections.abc import Mapping

from mendel.durable import Clock
from mendel.resilience import Admission, Breaker, BreakerPhase, BreakerPolicy
from mendel.serving.ports import Series
from mendel.values import VersionRef


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


class LocalBreakers:
    """``BreakerView`` in this process's memory."""

    def __init__(self, policy: BreakerPolicy, clock: Clock) -> None:
        self._policy, self._clock = policy, clock
        self._breakers: dict[VersionRef, Breaker] = {}

    def admit(self, version: VersionRef) -> Admission:
        """Whether one call may go to *version* now."""
        self._breakers[version], admission = self._breaker(version).admit(self._clock())
        return admission

    def record(self, version: VersionRef, *, epoch: int, succeeded: int = 0, failed: int = 0, unused: int = 0) -> None:
        """Ends of admitted calls."""
        breaker = self._breaker(version)
        self._breakers[version] = breaker.record(
            self._clock(), epoch=epoch, good=succeeded, faults=failed, neutral=unused
        )

    def phase(self, version: VersionRef) -> BreakerPhase:
        """Where the breaker stands."""
        return self._breaker(version).phase

    def forget(self, version: VersionRef) -> None:
        """Begin anew when it comes back."""
        self._breakers.pop(version, None)

    def _breaker(self, version: VersionRef) -> Breaker:
        return self._breakers.get(version) or Breaker(policy=self._policy)
