"""Snapshots that the registry makes from counters: by minute, merged with age, and judged once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from mendel.registry import MINUTE, RegistryStore, Snapshot, StudyReadings
from mendel.values import (
    EPOCH,
    LATENCY_BOUNDS_MS,
    ModelConvergence,
    ServerReport,
    VersionCounters,
    Window,
)

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Server:
    """Reports counters that only grow, in the middle of each minute."""

    def __init__(self, house):
        self.house, self.seq, self.counted = house, 0, {}

    def answers(self, requests, *, number=1, errors=0):
        known = self.counted.get(number, VersionCounters(model=self.house.model, version=number))
        place = int(np.searchsorted(LATENCY_BOUNDS_MS, 5.0))
        latency = tuple(held + requests * (index == place) for index, held in enumerate(known.latency))
        self.counted[number] = replace(
            known, requests=known.requests + requests, model_errors=known.model_errors + errors, latency=latency
        )
        self.seq += 1
        line = ModelConvergence(model=self.house.model, generation_desired=1, generation_serving=1, version_serving=1)
        report = ServerReport(
            server="s1",
            epoch="e1",
            seq=self.seq,
            at=self.house.clock(),
            revision=1,
            ready=True,
            convergence=(line,),
            counters=tuple(self.counted.values()),
            spool={},
        )
        self.house.clock.forward(seconds=30)
        self.house.registry.performance.record_server_report(replace(report, at=self.house.clock()))
        self.house.clock.forward(seconds=30)


@pytest.fixture
def served(house):
    """One version in production."""
    house.promoted()
    house.clock.forward(minutes=20)
    return house


@pytest.fixture
def server(served):
    server = Server(served)
    server.answers(0)
    return server


def minute_now(house):
    return Window.before(house.clock(), MINUTE)


def test_a_minute_with_requests_is_a_snapshot(served, server):
    """The counters of a minute make its snapshot, with the study's drift and quality; no requests make none."""
    performance = served.registry.performance
    served.clock.forward(seconds=60)
    assert performance.record_minute(minute_now(served), {}) == ()
    server.answers(100, errors=5)
    study = StudyReadings(input_drift_score=0.2, accuracy=0.9)
    (made,) = performance.record_minute(minute_now(served), {served.ref(1): study})
    assert (made.num_requests, made.error_rate, made.source) == (100, 0.05, "counters")
    assert (made.input_drift_score, made.accuracy, made.output_drift_score) == (0.2, 0.9, None)
    assert performance.snapshots(served.ref(1), ended_after=EPOCH) == (made,)


def test_a_version_that_left_within_the_minute_has_its_snapshot(served, server):
    """Whoever answered in the minute is measured, also after another version took its place."""
    server.answers(100)
    served.promoted()
    served.clock.forward(seconds=-60)
    (made,) = served.registry.performance.record_minute(minute_now(served), {})
    assert (made.ref.number, made.num_requests) == (1, 100)


def test_a_minute_of_the_registry_is_not_counted_twice(served, server):
    """Live counters win over the registry's snapshots of the same time, which add the drift only."""
    performance = served.registry.performance
    for _ in range(6):
        server.answers(100, errors=10)
        performance.record_minute(minute_now(served), {served.ref(1): StudyReadings(input_drift_score=0.35)})
    check = performance.check_rollback_triggers(served.model)
    assert check.reasons == ("High error rate: 10.00%", "Input distribution drift: 0.350")
    errors, drift = check.evidence[0].measurement, check.evidence[3].measurement
    assert errors.samples == drift.samples == 600


@pytest.mark.parametrize(("score", "holds"), [(0.3, False), (0.30000000000000004, False), (0.31, True)])
def test_the_drift_trigger_is_fed(served, server, score, holds):
    """The study's drift reaches the trigger through the snapshots of the minutes, and exactly 0.3 does not trigger."""
    for _ in range(6):
        server.answers(100)
        study = {served.ref(1): StudyReadings(input_drift_score=score)}
        served.registry.performance.record_minute(minute_now(served), study)
    assert served.registry.performance.check_rollback_triggers(served.model).should_roll_back is holds


def test_minutes_become_hours_and_hours_become_days(served):
    """After 7 days the minutes of an hour are one snapshot, after 90 days the hours of a day, weighted by requests."""
    performance, ref = served.registry.performance, served.ref(1)
    start = Window.containing(served.clock(), DAY).end

    def keep(snapshot):
        served.unit.write(lambda tx: tx.store(RegistryStore).put_snapshot(snapshot, recorded_at=start))

    def put(at, requests, errors):
        window = Window(at, at + MINUTE)
        keep(Snapshot(ref=ref, window=window, source="counters", num_requests=requests, error_rate=errors / requests))

    put(start, 100, 10)
    put(start + MINUTE, 300, 0)
    put(start + HOUR, 100, 5)
    put(start + 2 * DAY, 100, 0)
    keep(Snapshot(ref=ref, window=Window(start, start + MINUTE), source="push", num_requests=1))
    assert performance.merge_old_snapshots(start + 8 * DAY) == 3
    kept = [one for one in performance.snapshots(ref, ended_after=EPOCH) if one.source == "counters"]
    assert [(one.window.length, one.num_requests, one.error_rate) for one in kept] == [
        (HOUR, 400, 0.025),
        (HOUR, 100, 0.05),
        (MINUTE, 100, 0.0),
    ]
    assert performance.merge_old_snapshots(start + 8 * DAY) == 0
    assert performance.merge_old_snapshots(start + 95 * DAY) == 3
    kept = [one for one in performance.snapshots(ref, ended_after=EPOCH) if one.source == "counters"]
    assert [(one.window.length, one.num_requests, one.error_rate) for one in kept] == [
        (DAY, 500, 0.03),
        (DAY, 100, 0.0),
    ]
    assert len(performance.snapshots(ref, ended_after=EPOCH)) == 3
