"""The performance of one version in one window, computed from cumulative counters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from mendel.errors import InvalidValue
from mendel.values import LATENCY_BOUNDS_MS, ServerReport, VersionCounters, VersionRef, Window

FROM_COUNTERS = "counters"
_SHARES = ("error_rate", "timeout_rate", "ood_rate", "accuracy", "calibration_error")
_LATENCIES = ("latency_p50_ms", "latency_p95_ms", "latency_p99_ms")
_AMOUNTS = (*_LATENCIES, "requests_per_second", "input_drift_score", "output_drift_score")


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """
    The performance of a version in a window; a field that is None was not measured.

    Attributes:
        source: ``counters`` for a snapshot computed by the registry, else the name of the program that measured.
        num_requests: The number of requests; a snapshot without this number is stored and shown, but never measured.
        error_rate: The share of requests in which the model failed or timed out.
        timeout_rate: The share of requests that timed out.
        ood_rate: The share of rows outside the reference.
        input_drift_score: The KL divergence in nats: the mean over features, minus its bias (bins - 1) / (2 n).
    """

    ref: VersionRef
    window: Window
    source: str
    num_requests: int | None = None
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    latency_p99_ms: float | None = None
    requests_per_second: float | None = None
    error_rate: float | None = None
    timeout_rate: float | None = None
    ood_rate: float | None = None
    input_drift_score: float | None = None
    output_drift_score: float | None = None
    accuracy: float | None = None
    calibration_error: float | None = None

    def __post_init__(self) -> None:
        for name in _SHARES:
            if (value := getattr(self, name)) is not None and not 0 <= value <= 1:
                raise InvalidValue(f"{name} must be a fraction from 0 to 1, not {value}.")
        for name in _AMOUNTS:
            if (value := getattr(self, name)) is not None and not (value >= 0 and math.isfinite(value)):
                raise InvalidValue(f"{name} must be a finite number and not negative, but is {value}.")
        if self.num_requests is not None and self.num_requests < 0:
            raise InvalidValue(f"num_requests must not be negative, but is {self.num_requests}.")

    def within(self, window: Window) -> Snapshot | None:
        """
        Cut the snapshot to *window*, as if its requests were spread evenly over its time; None if nothing is left.

        >>> from mendel.values import EPOCH, ModelName
        >>> hour = Window(EPOCH, EPOCH + timedelta(hours=1))
        >>> ref = VersionRef(ModelName("credit"), 1)
        >>> pushed = Snapshot(ref=ref, window=hour, source="gateway", num_requests=600, error_rate=0.1)
        >>> cut = pushed.within(Window(EPOCH + timedelta(minutes=50), EPOCH + timedelta(hours=2)))
        >>> cut.num_requests, cut.error_rate
        (100, 0.1)
        """
        start, end = max(self.window.start, window.start), min(self.window.end, window.end)
        if start >= end:
            return None
        share = (end - start) / self.window.length
        count = None if self.num_requests is None else round(self.num_requests * share)
        return replace(self, window=Window(start, end), num_requests=count)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """A server's newest report, and when it reached the hub by the hub's clock."""

    report: ServerReport
    received_at: datetime

    @property
    def name(self) -> str:
        return self.report.server

    @property
    def public(self) -> ServerState:
        """The state without words of models and values of probe rows, for callers with the scope ``read``."""
        lines = tuple(replace(line, detail=None) for line in self.report.convergence)
        return replace(self, report=replace(self.report, convergence=lines))


def is_newer(report: ServerReport, last: ServerReport) -> bool:
    """
    Whether *report* replaces *last* of the same server.

    A restarted server numbers its reports from 1 again. A new epoch therefore differs from a late report of the former
    epoch, even if the server's clock was set back.
    """
    if report.epoch == last.epoch:
        return report.seq > last.seq
    return report.at > last.at or report.seq < last.seq


def grown(before: VersionCounters | None, after: VersionCounters) -> VersionCounters:
    """Compute the counts between two reports of one epoch; *before* None counts from the start of the epoch."""
    if before is None:
        return after
    return VersionCounters(
        model=after.model,
        version=after.version,
        requests=after.requests - before.requests,
        model_errors=after.model_errors - before.model_errors,
        timeouts=after.timeouts - before.timeouts,
        rejected=after.rejected - before.rejected,
        rows=after.rows - before.rows,
        ood_rows=after.ood_rows - before.ood_rows,
        latency=tuple(new - old for new, old in zip(after.latency, before.latency, strict=True)),
    )


def total(ref: VersionRef, parts: Iterable[VersionCounters]) -> VersionCounters:
    """Sum the counters over servers and epochs."""
    counted = [VersionCounters(model=ref.model, version=ref.number), *parts]
    return VersionCounters(
        model=ref.model,
        version=ref.number,
        requests=sum(c.requests for c in counted),
        model_errors=sum(c.model_errors for c in counted),
        timeouts=sum(c.timeouts for c in counted),
        rejected=sum(c.rejected for c in counted),
        rows=sum(c.rows for c in counted),
        ood_rows=sum(c.ood_rows for c in counted),
        latency=tuple(map(sum, zip(*(c.latency for c in counted), strict=True))),
    )


def snapshot_of(ref: VersionRef, window: Window, counted: VersionCounters) -> Snapshot:
    """Compute the snapshot from *counted*, the growth of the counters within *window*."""
    seconds = window.length / timedelta(seconds=1)
    faults = min(counted.requests, counted.model_errors + counted.timeouts)
    return Snapshot(
        ref=ref,
        window=window,
        source=FROM_COUNTERS,
        num_requests=counted.requests,
        latency_p50_ms=latency_percentile(counted.latency, 0.50),
        latency_p95_ms=latency_percentile(counted.latency, 0.95),
        latency_p99_ms=latency_percentile(counted.latency, 0.99),
        requests_per_second=counted.requests / seconds if seconds else None,
        error_rate=_share(faults, counted.requests),
        timeout_rate=_share(min(counted.requests, counted.timeouts), counted.requests),
        ood_rate=_share(min(counted.rows, counted.ood_rows), counted.rows),
    )


def latency_percentile(buckets: Sequence[int], q: float) -> float | None:
    """
    The *q*-quantile of a latency histogram in milliseconds, interpolated linearly within its bucket; None for an empty
    histogram.

    The upper ends of the buckets are ``LATENCY_BOUNDS_MS``; the first begins at 0. A quantile above the last bound
    gives that bound.

    >>> latency_percentile([0, 0, 10] + [0] * 22, 0.5)
    0.75
    """
    count = sum(buckets)
    if not count:
        return None
    rank, below, low = q * count, 0, 0.0
    for held, high in zip(buckets, LATENCY_BOUNDS_MS, strict=False):
        if held and below + held >= rank:
            return low + (high - low) * max(rank - below, 0) / held
        below += held
        low = high
    return low


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
