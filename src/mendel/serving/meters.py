"""Count requests, rows and latencies per model version, and requests per route, for the metrics."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from mendel.serving.batch_execution import Outcome
from mendel.serving.batching import PendingRequest
from mendel.serving.metrics import (
    ACTIVE,
    BATCHES,
    CALLS,
    LATENCY,
    MEMORY,
    MODEL_ERROR,
    OK,
    OOD_ROWS,
    OUTCOMES,
    QUEUED,
    REQUEST_TIME,
    REQUESTS,
    ROWS,
    SHED,
    STATUSES,
    UNLOGGED,
    WAITS,
    Histogram,
    series,
)
from mendel.serving.model_statistics import CallTimes
from mendel.serving.ports import CounterSlots
from mendel.values import VersionRef


class VersionMeter:
    """Counts requests of one model version; call its methods on the event loop only, except :meth:`calling`."""

    def __init__(self, counters: CounterSlots, ref: VersionRef) -> None:
        model, version = str.__str__(ref.model), str(ref.number)
        self._counters = counters
        self._labels = {"model": model, "version": version}
        self._statuses = {s: counters.reserve(series(OUTCOMES, status=s, **self._labels)) for s in STATUSES}
        self._ood = counters.reserve(series(OOD_ROWS, **self._labels))
        self._unlogged = counters.reserve(series(UNLOGGED, **self._labels))
        self._shed = counters.reserve(series(SHED, **self._labels))
        self._active = counters.reserve(series(ACTIVE, model=model))
        self._queued = counters.reserve(series(QUEUED, model_name=model))
        self._memory = counters.reserve(series(MEMORY, **self._labels))
        self._calls = counters.reserve(series(CALLS, **self._labels))
        self._calling = threading.Lock()
        self._batches = Histogram(counters, BATCHES, model=model)
        self._waits = Histogram(counters, WAITS, model=model)
        self._times = CallTimes(counters, ref)
        self._doors: dict[str, tuple[Histogram, int]] = {}

    def outcome(self, status: str, count: int = 1) -> None:
        """Count *count* requests that ended with *status*, one of ``STATUSES``."""
        self._counters.add(self._statuses[status], count)

    def entered(self, count: int) -> None:
        """Count *count* more requests in flight that wait for a batch."""
        self._counters.add(self._active, count)
        self.queued(count)

    def queued(self, count: int = 1) -> None:
        """Count *count* more requests that wait for a batch."""
        self._counters.add(self._queued, count)

    def calling(self, change: int) -> None:
        """Count *change* more calls of the model that run; if the process dies, the gauge tells who was called."""
        with self._calling:
            self._counters.add(self._calls, change)

    def left(self, count: int) -> None:
        """Count *count* requests less in flight."""
        self._counters.add(self._active, -count)

    def started(self, count: int) -> None:
        """Count *count* requests less that wait for a batch."""
        self._counters.add(self._queued, -count)

    def memory(self, grown_bytes: int) -> None:
        """Record that loading the version took *grown_bytes* of memory; a negative number when memory was freed."""
        self._counters.add(self._memory, grown_bytes)

    def shed(self, count: int = 1) -> None:
        """Count *count* requests of which no copy was sent to this shadow version."""
        self._counters.add(self._shed, count)

    def batch(
        self,
        tickets: Sequence[PendingRequest[Outcome]],
        outcomes: Sequence[Outcome] | BaseException,
        failed: Sequence[bool],
        now: float,
    ) -> None:
        """Count a batch that ran; a request whose deadline passed earlier was counted then and is not counted again."""
        self._batches.observe(sum(ticket.rows.count for ticket in tickets))
        self._waits.observe((tickets[0].started - tickets[0].arrived) * 1000)
        self._times.batch(tickets, failed, now)
        taken: dict[str, tuple[list[float], int]] = {}
        faults = answered = 0
        for ticket, bad in zip(tickets, failed, strict=True):
            times, rows = taken.get(ticket.call.door, ([], 0))
            taken[ticket.call.door] = (times, rows + ticket.rows.count)
            if not (ticket.settled or ticket.is_abandoned):
                times.append((now - ticket.arrived) * 1000)
                answered += 1
                faults += bad
        for door, (times, rows) in taken.items():
            latency, cell = self._door(door)
            self._counters.add(cell, rows)
            latency.observe_all(times)
        for status, count in ((MODEL_ERROR, faults), (OK, answered - faults)):
            if count:
                self.outcome(status, count)
        if not isinstance(outcomes, BaseException):
            self._counters.add(self._ood, sum(outcome.ood_rows for outcome in outcomes))
            self._counters.add(self._unlogged, sum(len(o.predictions) for o in outcomes if o.ids is None))

    def _door(self, door: str) -> tuple[Histogram, int]:
        if door not in self._doors:
            rows = self._counters.reserve(series(ROWS, door=door, **self._labels))
            self._doors[door] = (Histogram(self._counters, LATENCY, door=door, **self._labels), rows)
        return self._doors[door]


class DoorMeter:
    """Counts the answered requests of one process by route, status and model."""

    def __init__(self, counters: CounterSlots) -> None:
        self._counters = counters
        self._requests: dict[tuple[str, str, str, str], int] = {}
        self._times: dict[tuple[str, str, str], Histogram] = {}

    def answered(self, method: str, endpoint: str, status: str, model: str, seconds: Sequence[float]) -> None:
        """
        Count answered requests of one route, status and model.

        Args:
            endpoint: The pattern of the route, not the path of the request, so that callers cannot create new series.
            model: The name of a served model, or empty.
            seconds: The time that each request took.
        """
        key = (method, endpoint, status, model)
        cell = self._requests.get(key)
        if cell is None:
            labels = {"method": method, "endpoint": endpoint, "status_code": status, "model": model}
            cell = self._requests[key] = self._counters.reserve(series(REQUESTS, **labels))
        self._counters.add(cell, len(seconds))
        place = (method, endpoint, model)
        if place not in self._times:
            self._times[place] = Histogram(self._counters, REQUEST_TIME, method=method, endpoint=endpoint, model=model)
        self._times[place].observe_all([took * 1000 for took in seconds])
