"""Snapshots that the registry makes itself: one for each minute with requests, merged into hours and days later."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

from mendel.registry.ports import RegistryStore
from mendel.registry.rollback_triggers import mean_of
from mendel.registry.snapshots import FROM_COUNTERS, Snapshot, snapshot_of, total
from mendel.values import Measured, VersionRef, Window

MINUTE: Final = timedelta(minutes=1)
HOUR: Final = timedelta(hours=1)
DAY: Final = timedelta(days=1)
_COARSER: Final = ((DAY, timedelta(days=90)), (HOUR, timedelta(days=7)))
"""The lengths of merged snapshots, and the age from which shorter ones are merged into them."""
_AT_ONCE: Final = 2000
_MEANS: Final = (
    *("latency_p50_ms", "latency_p95_ms", "latency_p99_ms", "error_rate", "timeout_rate", "ood_rate"),
    *("input_drift_score", "output_drift_score", "accuracy", "calibration_error"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyReadings:
    """What the last study of the prediction log measured of one version; None if it was not measured."""

    input_drift_score: float | None = None
    output_drift_score: float | None = None
    accuracy: float | None = None
    calibration_error: float | None = None


def minute_snapshots(
    store: RegistryStore, minute: Window, studies: Mapping[VersionRef, StudyReadings]
) -> Iterator[Snapshot]:
    """Measure every version that answered or shadowed requests in *minute*, also one that serves no more."""
    for ref in _versions_at(store, minute):
        counted = snapshot_of(ref, minute, total(ref, store.growth(ref, minute)))
        if not counted.num_requests or store.version(ref) is None:
            continue
        study = studies.get(ref, StudyReadings())
        yield replace(
            counted,
            input_drift_score=study.input_drift_score,
            output_drift_score=study.output_drift_score,
            accuracy=study.accuracy,
            calibration_error=study.calibration_error,
        )


def _versions_at(store: RegistryStore, minute: Window) -> Iterable[VersionRef]:
    """Give the versions that a server counted and reported since *minute* began, and those with a route, each once."""
    reports = [server.report for server in store.servers() if server.received_at >= minute.start]
    counted = [VersionRef(one.model, one.version) for report in reports for one in report.counters]
    routed = [
        VersionRef(deployment.model, number)
        for deployment in store.deployments()
        for number in (*(route.version for route in deployment.routes), deployment.shadow)
        if number is not None
    ]
    return dict.fromkeys((*counted, *routed))


def merge_old_snapshots(store: RegistryStore, now: datetime) -> int:
    """
    Merge minutes older than 7 days into hours, and hours older than 90 days into days; at most 2000 of each.

    Returns:
        The number of snapshots that were replaced.
    """
    replaced = 0
    for length, age in _COARSER:
        end = Window.containing(now - age, length).start
        fine = store.fine_snapshots(FROM_COUNTERS, shorter_than=length, ended_by=end, limit=_AT_ONCE)
        if len(fine) == _AT_ONCE:  # the last span may go on behind the limit
            fine = [one for one in fine if _span(one, length) != _span(fine[-1], length)] or fine
        for (ref, window), parts in groupby(fine, key=lambda one: _span(one, length)):
            found = list(parts)
            for one in found:
                store.drop_snapshot(one)
            store.put_snapshot(merged(ref, window, found), recorded_at=now)
        replaced += len(fine)
    return replaced


def _span(snapshot: Snapshot, length: timedelta) -> tuple[VersionRef, Window]:
    return snapshot.ref, Window.containing(snapshot.window.start, length)


def merged(ref: VersionRef, window: Window, parts: Sequence[Snapshot]) -> Snapshot:
    """
    Merge the snapshots *parts* of *window*.

    Shares, scores and percentiles of latency are means weighted by requests; the mean of percentiles is not the
    percentile of the whole window.
    """
    requests = sum(one.num_requests or 0 for one in parts)
    return Snapshot(
        ref=ref,
        window=window,
        source=FROM_COUNTERS,
        num_requests=requests,
        requests_per_second=requests / window.length.total_seconds(),
        **{name: _mean(parts, name) for name in _MEANS},
    )


def only_study(snapshots: Iterable[Snapshot]) -> Iterator[Snapshot]:
    """
    Keep of the registry's own snapshots what counters do not measure, so that live counters are not counted twice;
    other snapshots are unchanged.
    """
    for one in snapshots:
        if one.source != FROM_COUNTERS:
            yield one
        elif one.input_drift_score is not None:
            yield Snapshot(
                ref=one.ref,
                window=one.window,
                source=one.source,
                num_requests=one.num_requests,
                input_drift_score=one.input_drift_score,
                output_drift_score=one.output_drift_score,
            )


def _mean(parts: Sequence[Snapshot], name: str) -> float | None:
    mean = mean_of(parts, name)
    return mean.value if isinstance(mean, Measured) else None
