"""The snapshots that a hub makes each minute."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import count

import pytest

from mendel.adapters.memory import MemoryUnitOfWork, all_stores
from mendel.app.hub.minute_snapshots import MinuteSnapshots
from mendel.drift import Quality, Task
from mendel.healing import HealingStore, LogFacts, Look, LookBook, LookKind
from mendel.registry import MINUTE, Registry, RegistryStore, VersionRecord
from mendel.values import (
    EPOCH,
    Digest,
    Measured,
    ModelName,
    NotMeasured,
    ServerReport,
    Stage,
    VersionCounters,
    VersionRef,
    VersionUuid,
    Window,
)

REF = VersionRef(ModelName("credit"), 1)
SERVED = VersionCounters(model=REF.model, version=REF.number)
START = EPOCH + timedelta(days=1)


class Hub:
    """A registry with one version, a server that answers 60 requests a minute, and the job."""

    def __init__(self):
        self.now, self.seq, ids = START, 0, count(1)
        self.unit = MemoryUnitOfWork(all_stores())
        new_id = lambda: f"id-{next(ids)}"  # noqa: E731 - one line, one use
        self.registry = Registry(self.unit, None, lambda: self.now, new_id)
        self.job = MinuteSnapshots(self.registry, LookBook(self.unit, self.registry, new_id), lambda: self.now)
        record = VersionRecord(
            ref=REF,
            run_id=None,
            stage=Stage.SANDBOX,
            flavor="sklearn",
            task="classification",
            artifact_digest=Digest(f"sha256:{1:064x}"),
            registered_at=START,
            uuid=VersionUuid(f"m-{1:032x}"),
            idempotency_key="k",
        )
        self.unit.write(lambda tx: tx.store(RegistryStore).add_version(record))
        self.report()

    def report(self):
        """What the server has counted until now."""
        self.seq += 1
        requests = (self.now - START) // timedelta(seconds=1)
        counted = replace(SERVED, requests=requests, latency=(requests, *SERVED.latency[1:]))
        report = ServerReport(
            server="s", epoch="e", seq=self.seq, at=self.now, revision=1, ready=True, counters=(counted,), spool={}
        )
        self.registry.performance.record_server_report(report)

    def pass_minutes(self, minutes):
        """Let time pass, with a report every 30 s and without the job."""
        for _ in range(2 * minutes):
            self.now += MINUTE / 2
            self.report()

    def study(self, accuracy):
        """A study of the prediction log now."""
        current = Quality(task=Task.CLASSIFICATION, samples=9, classes=(), metrics={"accuracy": accuracy}, confusion=())
        window = Window.before(self.now, MINUTE)
        facts = LogFacts(
            ref=REF, canary=None, reports=(), since=None, window=window, current=current, baseline=None, first=None
        )
        look = Look(
            id=f"l{self.seq}",
            model=REF.model,
            kind=LookKind.LOG,
            at=self.now,
            until=self.now,
            policy_hash="h",
            log=facts,
        )
        self.unit.write(lambda tx: tx.store(HealingStore).add_look(look))

    def made(self):
        return self.registry.performance.snapshots(REF, ended_after=EPOCH)


@pytest.fixture
def hub():
    return Hub()


def test_each_minute_is_measured_once(hub):
    """However often the job runs, a minute is one snapshot; minutes that it missed are made when it runs again."""
    for _ in range(3):
        hub.pass_minutes(1)
        hub.job.make()
        hub.job.make()
    hub.pass_minutes(4)
    hub.job.make()
    assert [(one.window.end - START) // MINUTE for one in hub.made()] == [1, 2, 3, 4, 5, 6, 7]
    assert {one.num_requests for one in hub.made()} == {60}


def test_after_a_long_pause_only_the_last_minutes_are_made(hub):
    """A hub that slept makes the last 10 minutes, not every minute of the night."""
    hub.pass_minutes(1)
    hub.job.make()
    hub.pass_minutes(60)
    hub.job.make()
    assert len(hub.made()) == 11


def test_a_snapshot_has_what_the_last_study_measured(hub):
    """The quality of the last study stands in the snapshots after it, until a study is overdue for an hour."""
    hub.study(Measured(value=0.9, samples=9))
    hub.pass_minutes(1)
    hub.job.make()
    hub.study(NotMeasured(reason="no labels"))
    hub.pass_minutes(1)
    hub.job.make()
    assert [one.accuracy for one in hub.made()] == [0.9, None]
    hub.study(Measured(value=0.8, samples=9))
    hub.pass_minutes(65)
    hub.job.make()
    assert hub.made()[-1].accuracy is None
    assert hub.made()[2].accuracy == 0.8
