"""Statistics of model versions in the form of Triton's statistics extension, over all processes of the server."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mendel.serving.batch_execution import Outcome
from mendel.serving.batching import PendingRequest
from mendel.serving.metrics import OK, OUTCOMES, ROWS, Totals
from mendel.serving.ports import CounterSlots, Series
from mendel.serving.unregistered_version import UNREGISTERED
from mendel.values import VersionRef

_NAME: Final = "mendel_version_call_times"
_CALLS, _REQUESTS, _SUCCEEDED, _FAILED, _QUEUED, _COMPUTED, _WIDTH = range(7)
"""The cells of one version: calls of the model, requests in them, and four sums of microseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Duration:
    """How many requests there were, and their times together in nanoseconds."""

    count: int
    ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestTimes:
    """
    The times of the requests of one version, with the field names of the extension.

    ``fail`` counts every request without a prediction; its time is that of the requests for which the model failed.
    The times in which inputs are decoded and outputs encoded are not measured.
    """

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration = Duration(count=0, ns=0)
    compute_infer: Duration
    compute_output: Duration = Duration(count=0, ns=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatistics:
    """
    The statistics of one loaded version, with the field names of the extension.

    Attributes:
        version: The number of the version; empty for a version that is not registered.
        inference_count: The rows that were given to the model.
        execution_count: The batches that the model predicted, or failed to predict.
    """

    name: str
    version: str
    inference_count: int
    execution_count: int
    inference_stats: RequestTimes
    batch_stats: tuple[()] = ()


class CallTimes:
    """Counts the calls of one model version, and the times of the requests in them."""

    def __init__(self, counters: CounterSlots, ref: VersionRef) -> None:
        labels = (("model", str.__str__(ref.model)), ("version", str(ref.number)))
        self._counters = counters
        self._cell = counters.reserve(Series(_NAME, labels, gauge=False), _WIDTH)

    def batch(self, tickets: Sequence[PendingRequest[Outcome]], failed: Sequence[bool], now: float) -> None:
        """Count a call that ended at *now*, a second of the kernel's monotonic clock."""
        if self._cell < 0:
            return
        count, started = len(tickets), tickets[0].started
        arrived = sum(ticket.arrived for ticket in tickets)
        bad = 0.0
        if True in failed:
            bad = sum(now - ticket.arrived for ticket, fails in zip(tickets, failed, strict=True) if fails)
            self._counters.add(self._cell + _FAILED, _micros(bad))
        self._counters.add(self._cell + _CALLS)
        self._counters.add(self._cell + _REQUESTS, count)
        self._counters.add(self._cell + _QUEUED, _micros(count * started - arrived))
        self._counters.add(self._cell + _COMPUTED, _micros(count * (now - started)))
        self._counters.add(self._cell + _SUCCEEDED, _micros(count * now - arrived - bad))


def statistics_of(totals: Totals, versions: Iterable[VersionRef]) -> tuple[ModelStatistics, ...]:
    """Give the statistics of *versions* from the counters of the server."""
    counted = _counted(totals)
    return tuple(_statistics(counted[ref.model, str(ref.number)], ref) for ref in versions)


def _counted(totals: Totals) -> Mapping[tuple[str, str], Mapping[str, tuple[int, ...]]]:
    found: dict[tuple[str, str], dict[str, tuple[int, ...]]] = defaultdict(dict)
    for line, cells in totals.items():
        if line.name not in {_NAME, OUTCOMES.name, ROWS.name}:
            continue
        labels = dict(line.labels)
        mine, key = found[labels["model"], labels["version"]], labels.get("status", line.name)
        mine[key] = tuple(a + b for a, b in zip(mine.get(key, (0,) * len(cells)), cells, strict=True))
    return found


def _statistics(counts: Mapping[str, tuple[int, ...]], ref: VersionRef) -> ModelStatistics:
    cells = counts.get(_NAME, (0,) * _WIDTH)
    (rows,), (good,) = counts.get(ROWS.name, (0,)), counts.get(OK, (0,))
    bad = sum(values[0] for key, values in counts.items() if key not in {_NAME, ROWS.name, OK})
    return ModelStatistics(
        name=ref.model,
        version="" if ref.number == UNREGISTERED else str(ref.number),
        inference_count=rows,
        execution_count=cells[_CALLS],
        inference_stats=RequestTimes(
            success=_duration(good, cells[_SUCCEEDED]),
            fail=_duration(bad, cells[_FAILED]),
            queue=_duration(cells[_REQUESTS], cells[_QUEUED]),
            compute_infer=_duration(cells[_REQUESTS], cells[_COMPUTED]),
        ),
    )


def _duration(count: int, micros: int) -> Duration:
    return Duration(count=count, ns=micros * 1000)


def _micros(seconds: float) -> int:
    return max(0, round(seconds * 1e6))
