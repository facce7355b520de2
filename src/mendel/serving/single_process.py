"""Metrics and circuit breakers for a server with a single process."""

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
        """Give the number of the first cell of *series*."""
        if series not in self._places:
            self._places[series] = (len(self._cells), width)
            self._cells.extend([0] * width)
        return self._places[series][0]

    def add(self, cell: int, amount: int = 1) -> None:
        """Add *amount* to the value of *cell*."""
        self._cells[cell] += amount

    def put(self, cell: int, value: int) -> None:
        """Set the value of *cell*."""
        self._cells[cell] = value

    def totals(self) -> Mapping[Series, tuple[int, ...]]:
        """Give the values of every series."""
        return {series: tuple(self._cells[at : at + width]) for series, (at, width) in self._places.items()}


class LocalBreakers:
    """``BreakerView`` in this process's memory."""

    def __init__(self, policy: BreakerPolicy, clock: Clock) -> None:
        self._policy, self._clock = policy, clock
        self._breakers: dict[VersionRef, Breaker] = {}

    def admit(self, version: VersionRef) -> Admission:
        """Decide whether one call may go to *version* now."""
        self._breakers[version], admission = self._breaker(version).admit(self._clock())
        return admission

    def record(self, version: VersionRef, *, epoch: int, succeeded: int = 0, failed: int = 0, unused: int = 0) -> None:
        """Record the results of calls that were admitted in *epoch*."""
        breaker = self._breaker(version)
        self._breakers[version] = breaker.record(
            self._clock(), epoch=epoch, good=succeeded, faults=failed, neutral=unused
        )

    def keep(self, version: VersionRef) -> None:
        """Do nothing: only this process could forget the breaker."""

    def phase(self, version: VersionRef) -> BreakerPhase:
        """Give the phase of the version's breaker: closed, open or half-open."""
        return self._breaker(version).phase

    def forget(self, version: VersionRef) -> None:
        """Drop the breaker of *version*; a later call starts with a closed breaker."""
        self._breakers.pop(version, None)

    def _breaker(self, version: VersionRef) -> Breaker:
        return self._breakers.get(version) or Breaker(policy=self._policy)
