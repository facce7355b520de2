"""SIGKILL and SIGTERM at random moments: what was acknowledged stands, each thing once."""

from __future__ import annotations

import os
import random
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
KILLS = 4
"""Of the hub, and of the server's processes, in `make test`; `make soak` kills for as long as it may."""
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
    """Kills the hub: every fourth time while it starts, else when some more was answered since it became ready."""

    def __init__(self, hub, traffic, rng, enough):
        self._hub, self._traffic, self._rng, self._enough = hub, traffic, rng, enough

    def __call__(self):
        if self._enough(self._hub.kills):
            return None
        if self._hub.kills % 4 != 3:
            self._hub.await_ready()
        self._traffic.go_on(self._rng.randrange(400))
        self._hub.kill()
        return 0.0


class ServerKills:
    """Kills the server's supervisor, or one of its children, when some more was answered."""

    def __init__(self, server, traffic, rng, enough):
        self._server, self._traffic, self._rng, self._enough = server, traffic, rng, enough
        self.children = 0

    def __call__(self):
        if self._enough(self._server.kills + self.children) and self._server.kills and self.children:
            return None
        self._server.await_ready()
        self._traffic.go_on(self._rng.randrange(250))
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


class EffectMonitor:
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
    assert "The hash chain of the ledger is intact" in installation.ok("ledger", "verify")


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


def kill_under_traffic(installation, load, rng, enough):
    """Kill hub and server until *enough* says so of the number of kills, under all that users do; hold what is left."""
    installation.settings["MENDEL_SERVING__WORKERS"] = "2"
    hub = Kept(installation, hub_answers(installation), "hub")
    hub.await_ready()
    with installation.over_http() as client:
        client.pause_healing(reason="the operator shall be alone")
    url = f"http://{HOST}:{installation.ports['hub']}"
    server = Kept(installation, server_answers(installation), "serve", "--hub", url)
    server.await_ready()
    traffic = load(installation)
    operator, labeller = Operator(installation, rng), Labeller(installation, traffic, rng)
    hub_kills, server_kills = HubKills(hub, traffic, rng, enough), ServerKills(server, traffic, rng, enough)
    watcher = EffectMonitor(installation)
    with ExitStack() as running:
        running.enter_context(traffic)
        others = [running.enter_context(BackgroundJob(job)) for job in (operator, labeller, watcher)]
        killers = [running.enter_context(BackgroundJob(killer)) for killer in (hub_kills, server_kills)]
        while not (all(killer.over for killer in killers) or any(other.over for other in others)):
            traffic.go_on(1)  # which fails where nobody answers any more
    hub.await_ready()
    server.await_ready()
    assert min(hub.kills, server.kills, server_kills.children) > 0
    assert installation.stop(server.process) == 0
    assert installation.stop(hub.process) == 0
    ship_everything(installation)
    assert len(operator.acknowledged) > hub.kills
    assert len(labeller.acknowledged) > hub.kills
    assert {door for door, _ in traffic.versions} == {"rest", "grpc", "zmq"}
    assert {version for _, version in traffic.versions} == {1, 2}
    assert traffic.unlogged == 0
    assert watcher.looks > 100
    require_one_history(installation, operator.acknowledged)
    require_each_once(installation, traffic.acknowledged, labeller.acknowledged)
    return (
        f"killed: {hub.kills} hubs, {server.kills} supervisors, {server_kills.children} workers and fronts; "
        f"acknowledged: {len(traffic.acknowledged)} predictions, {len(labeller.acknowledged)} labels, "
        f"{len(operator.acknowledged)} changes; each there once"
    )


@pytest.mark.race
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_nothing_acknowledged_is_lost_or_doubled_by_kills(two_versions, load, rng):
    """
    Hub and parts of the server are killed under traffic, labels, promotions and rollbacks: every acknowledged
    prediction, label and change is there, once.
    """
    kill_under_traffic(two_versions, load, rng, lambda kills: kills >= KILLS)


@pytest.mark.soak
def test_nothing_acknowledged_is_lost_or_doubled_however_long(two_versions, load, soak_seconds, capsys):
    """The same for as long as there is time, at other moments every time."""
    seed, end = random.randrange(1 << 32), time.monotonic() + soak_seconds
    with capsys.disabled():
        sys.stdout.write(f"\nseed {seed}\n")
        told = kill_under_traffic(two_versions, load, random.Random(seed), lambda _: time.monotonic() > end)
        sys.stdout.write(f"{told}\n")


def stop_at(installation, traffic, moment, stop):
    """Start `mendel up`, wait until it is in *moment*, and *stop* it; it ends with 0."""
    process, before = installation.start("up"), len(traffic.acknowledged)
    moments = {
        "it holds the directory": partial(installation.locked, installation.directory / "up.lock"),
        "the hub has its port": lambda: installation.data.hub() is not None,
        "the server has its ports": installation.data.server_ports,
        "it answers": lambda: len(traffic.acknowledged) > before,
        "it has answered a while": lambda: len(traffic.acknowledged) > before + 300,
    }
    installation.until(moments[moment], process=process)
    assert stop(process) == 0, installation.log.read_text()[-4000:]


def ctrl_c(process):
    """SIGINT to its process group, as a terminal sends it, and the exit code."""
    os.killpg(process.pid, signal.SIGINT)
    return process.wait(timeout=60)


@pytest.mark.slow(60)
@pytest.mark.timeout(300)
def test_sigterm_at_any_moment_loses_nothing(install, trees, load, rng):
    """
    `mendel up` told to stop, at any point of its start or while it answers, ends with 0 and loses nothing; also when
    Ctrl-C in a terminal reaches every process of it, the hub hears that the server stops.
    """
    installation = install()
    with installation.client() as client:
        installation.register(client, trees / "1")
        client.promote(f"{MODEL}@1", reason="the first")
    traffic = load(installation)
    labeller = Labeller(installation, traffic, rng)
    with traffic, BackgroundJob(labeller):
        for moment in ("it holds the directory", "the hub has its port", "the server has its ports", "it answers"):
            stop_at(installation, traffic, moment, installation.stop)
        stop_at(installation, traffic, "it has answered a while", ctrl_c)
    with installation.client() as client:
        assert [state.report.leaving for state in client.servers()] == [True]
        assert [one for one in client.incidents(MODEL) if one.status.unresolved] == []
    assert len(traffic.acknowledged) > 30
    assert labeller.acknowledged
    ship_everything(installation)
    require_each_once(installation, traffic.acknowledged, labeller.acknowledged)
