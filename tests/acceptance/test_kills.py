"""SIGKILL and SIGTERM at random moments: what was acknowledged stands, each thing once."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing
from functools import partial
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from deltalake import DeltaTable

from mendel.errors import Unavailable
from mendel.predictions import LabelRow
from mendel.values import Stage

HOST, MODEL = "127.0.0.1", "credit"
KILLS = 20
CHANGES = {"model.promoted", "model.rollback", "deployment.changed"}


class BackgroundJob:
    """A thread that does one thing again and again until its block ends; what it did not expect ends the block."""

    def __init__(self, turn):
        self._turn = turn
        self._stop = threading.Event()
        self._surprise = None
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()
        if self._surprise is not None:
            raise self._surprise

    @property
    def over(self):
        """Whether it ended by itself: it is done, or surprised."""
        return not self._thread.is_alive()

    def _run(self):
        try:
            while not self._stop.is_set() and (pause := self._turn()) is not None:
                self._stop.wait(pause)
        except Exception as error:
            self._surprise = error


class Kept:
    """A process that is started again whenever it is killed."""

    def __init__(self, installation, ready, *arguments):
        self._installation, self._arguments = installation, arguments
        self.ready = ready
        self.kills = 0
        self.process = installation.start(*arguments)

    def kill(self):
        """SIGKILL to it, and a successor."""
        self.process.kill()
        self.process.wait()
        self.kills += 1
        self.process = self._installation.start(*self._arguments)

    def await_ready(self):
        """Wait until the one that runs now is ready."""
        self._installation.until(lambda: self.ready(self.process), process=self.process)


class HubKills:
    """Kills the hub: one time in four while it starts, else some moments after it answered."""

    def __init__(self, hub, rng):
        self._hub, self._rng = hub, rng

    def __call__(self):
        if self._hub.kills == KILLS:
            return None
        if self._rng.random() < 0.25:
            time.sleep(self._rng.uniform(0.0, 2.5))
        else:
            self._hub.await_ready()
            time.sleep(self._rng.uniform(0.0, 2.5))
        self._hub.kill()
        return 0.0


class ServerKills:
    """Kills the server's supervisor, or one of its children, some moments after a worker answers."""

    def __init__(self, server, rng):
        self._server, self._rng = server, rng
        self.children = 0

    def __call__(self):
        if self._server.kills + self.children >= KILLS and self._server.kills >= KILLS // 3:
            return None
        self._server.await_ready()
        time.sleep(self._rng.uniform(0.0, 1.5))
        children = children_of(self._server.process.pid)
        if self._rng.random() < 0.4 or not children:
            self._server.kill()
        else:
            self._kill_child(self._rng.choice(children))
        return 0.0

    def _kill_child(self, pid):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.children += 1


class Operator:
    """Promotes and rolls back through the hub; every change has a reason of its own, by which history tells it."""

    def __init__(self, installation, rng):
        self._installation, self._rng = installation, rng
        self._turns = 0
        self.acknowledged = []

    def __call__(self):
        self._turns += 1
        try:
            with self._installation.over_http() as client:
                self._change(client, f"turn {self._turns}")
        except Unavailable:
            pass  # the hub is dead, or died in the middle: nothing was acknowledged
        return self._rng.uniform(0.0, 0.3)

    def _change(self, client, reason):
        serving = client.deployment(MODEL).production
        other = client.version(f"{MODEL}@{3 - serving}")
        if other.stage is Stage.ROLLBACK:
            client.change_stage(other.ref, "sandbox")
        if self.acknowledged and self._rng.random() < 0.3:
            done = client.rollback(MODEL, reason=reason)
            self.acknowledged.append((reason, done.deployment.generation, done.to_version.number))
        else:
            deployment = client.promote(other.ref, reason=reason)
            self.acknowledged.append((reason, deployment.generation, other.number))


class Labeller:
    """Labels predictions that were acknowledged, each once, at the server or at the hub."""

    def __init__(self, installation, load, rng):
        self._installation, self._load, self._rng = installation, load, rng
        self.sent, self.acknowledged = set(), {}

    def __call__(self):
        chosen = {name: int(name[-1], 16) % 2 for name in self._load.take(self._rng, 20) if name not in self.sent}
        self.sent |= set(chosen)
        if chosen and (self._rng.choice((self._at_the_server, self._at_the_hub)))(chosen):
            self.acknowledged |= chosen
        return self._rng.uniform(0.0, 0.2)

    def _at_the_server(self, labels):
        rows = [{"prediction_id": name, "true_label": label} for name, label in labels.items()]
        headers = {"authorization": f"Bearer {self._installation.data.secret()}"}
        url = f"http://{HOST}:{self._installation.ports['rest']}/monitoring/labels"
        try:
            return httpx.post(url, json={"labels": rows}, headers=headers, timeout=10).status_code == 202
        except httpx.TransportError:
            return False

    def _at_the_hub(self, labels):
        now = self._installation.now()
        rows = [
            LabelRow(prediction_id=name, true_label=label, label_source="test", received_at=now)
            for name, label in labels.items()
        ]
        try:
            with self._installation.over_http() as client:
                client.label(rows)
        except Unavailable:
            return False
        return True


class Watcher:
    """Looks into the database again and again for a second production version."""

    def __init__(self, installation):
        self._path = installation.data.database
        self.looks = 0

    def __call__(self):
        with closing(sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, timeout=5)) as database:
            serving = database.execute("SELECT number FROM versions WHERE stage = 'production'").fetchall()
        assert len(serving) == 1, f"{serving} are in production at once"
        self.looks += 1
        return 0.02


def children_of(pid):
    """Process ids of its children."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def raw_ids(installation, table):
    """How often each prediction id stands in a table of the lake, as anybody's Delta reader sees it."""
    rows = DeltaTable(installation.data.lake / table).to_pyarrow_table(columns=["prediction_id"])
    return Counter(rows["prediction_id"].to_pylist())


def ship_everything(installation):
    """After the server has stopped: let a hub alone bring what is in its inbox to the lake."""
    assert list(installation.data.server.glob("spool/*/*.segment")) == []
    hub = Kept(installation, hub_answers(installation), "hub")
    hub.await_ready()
    installation.until(lambda: not list(installation.data.segments.glob("*/*.segment")), process=hub.process)
    assert installation.stop(hub.process) == 0


def whole_ledger(client):
    """Every entry."""
    entries, after = [], 0
    while after is not None:
        page = client.events(after=after)
        entries.extend(page.entries)
        after = page.next
    return entries


def require_one_history(installation, acknowledged):
    """Hold tenures, generations and ledger against what was acknowledged."""
    with installation.client() as client:
        tenures, deployment, entries = client.history(MODEL), client.deployment(MODEL), whole_ledger(client)
        production = [one.number for one in client.versions(MODEL) if one.stage is Stage.PRODUCTION]
    told = Counter(tenure.reason for tenure in tenures)
    assert max(told.values()) == 1
    version_of = {tenure.reason: tenure.version for tenure in tenures}
    for reason, _, version in acknowledged:
        assert version_of.get(reason) == version, f"{reason} was acknowledged"
    generation_of = {e.event.data["reason"]: e.event.data["generation"] for e in entries if e.event.type in CHANGES}
    assert sorted(generation_of.values()) == list(range(1, deployment.generation + 1))
    for reason, generation, _ in acknowledged:
        assert generation_of[reason] == generation
    for before, after in pairwise(tenures):
        assert before.end is not None
        assert before.end <= after.start
    assert production == [deployment.production] == [tenures[-1].version]
    assert "The ledger holds" in installation.ok("ledger", "verify")


def require_each_once(installation, predictions, labels):
    """Hold the lake against the ids and labels that were acknowledged."""
    logged = raw_ids(installation, f"predictions/{MODEL}")
    lost = [name for name in predictions if name not in logged]
    assert lost == [], f"{len(lost)} of {len(predictions)} are lost"
    assert max(logged.values()) == 1
    told = raw_ids(installation, "labels")
    assert [name for name in labels if name not in told] == []
    assert max(told.values(), default=1) == 1
    with installation.client() as client:
        stats = client.stats(MODEL)
    assert stats.labelled == len(told)
    assert (stats.conflicts, stats.unmatched, stats.quarantined) == (0, 0, 0)
    assert stats.predictions == len(logged)


def hub_answers(installation):
    """Whether the hub that was started as *process* answers."""

    def ready(process):
        running = installation.data.hub()
        if running is None or running.pid != process.pid:
            return False
        try:
            return httpx.get(f"{running.url}/ready", timeout=2).is_success
        except httpx.TransportError:
            return False

    return ready


def server_answers(installation):
    """Whether the server that was started as *process* answers for the model."""

    def ready(_):
        try:
            url = f"http://{HOST}:{installation.ports['rest']}/v1/{MODEL}/predict"
            return httpx.post(url, json=installation.row(0), timeout=2).is_success
        except httpx.TransportError:
            return False

    return ready


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_acknowledged_is_lost_or_doubled_by_kills(two_versions, load, rng, capsys):
    """
    Twenty times the hub and twenty times parts of the server are killed under traffic, labels, promotions and
    rollbacks: every acknowledged prediction, label and change is there, once.
    """
    installation = two_versions
    hub = Kept(installation, hub_answers(installation), "hub")
    hub.await_ready()
    with installation.over_http() as client:
        client.pause_healing(reason="the operator shall be alone")
    url = f"http://{HOST}:{installation.ports['hub']}"
    server = Kept(installation, server_answers(installation), "serve", "--hub", url)
    server.await_ready()
    traffic = load(installation)
    operator, labeller = Operator(installation, rng), Labeller(installation, traffic, rng)
    hub_kills, server_kills, watcher = HubKills(hub, rng), ServerKills(server, rng), Watcher(installation)
    with ExitStack() as running:
        running.enter_context(traffic)
        others = [running.enter_context(BackgroundJob(chore)) for chore in (operator, labeller, watcher)]
        killers = [running.enter_context(BackgroundJob(killer)) for killer in (hub_kills, server_kills)]
        installation.until(lambda: all(killer.over for killer in killers) or any(other.over for other in others), 400)
    hub.await_ready()
    server.await_ready()
    assert hub.kills >= KILLS
    assert server.kills + server_kills.children >= KILLS
    assert min(server.kills, server_kills.children) > 0
    assert installation.stop(server.process) == 0
    assert installation.stop(hub.process) == 0
    ship_everything(installation)
    assert len(operator.acknowledged) > KILLS
    assert len(labeller.acknowledged) > KILLS
    assert {door for door, _ in traffic.versions} == {"rest", "grpc", "zmq"}
    assert {version for _, version in traffic.versions} == {1, 2}
    assert traffic.unlogged == 0
    assert watcher.looks > 100
    require_one_history(installation, operator.acknowledged)
    require_each_once(installation, traffic.acknowledged, labeller.acknowledged)
    told = (
        f"killed: {hub.kills} hubs, {server.kills} supervisors, {server_kills.children} workers and fronts; "
        f"acknowledged: {len(traffic.acknowledged)} predictions, {len(labeller.acknowledged)} labels, "
        f"{len(operator.acknowledged)} changes; each there once"
    )
    with capsys.disabled():
        sys.stdout.write(f"\n{told}\n")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_sigterm_at_any_moment_loses_nothing(install, trees, load, rng):
    """`mendel up` that is told to stop at random moments, its own start among them, ends with 0 and loses nothing."""
    installation = install()
    with installation.client() as client:
        installation.register(client, trees / "1")
    installation.ok("promote", f"{MODEL}@1", "--reason", "the first")
    traffic = load(installation)
    labeller = Labeller(installation, traffic, rng)
    with traffic, BackgroundJob(labeller):
        for _ in range(3):
            process = installation.start("up")
            installation.until(partial(installation.locked, installation.directory / "up.lock"), process=process)
            time.sleep(rng.uniform(0.0, 4.0))
            assert installation.stop(process) == 0, installation.log.read_text()[-4000:]
        for _ in range(3):
            process, before = installation.start("up"), len(traffic.acknowledged)
            installation.until(lambda before=before: len(traffic.acknowledged) > before, process=process)
            time.sleep(rng.uniform(0.0, 2.0))
            assert installation.stop(process) == 0, installation.log.read_text()[-4000:]
    assert len(traffic.acknowledged) > 30
    assert labeller.acknowledged
    ship_everything(installation)
    require_each_once(installation, traffic.acknowledged, labeller.acknowledged)
