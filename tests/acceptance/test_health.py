"""Truthful health, over real processes: what stops, is slow or is killed is told of, and no version is blamed."""

from __future__ import annotations

import json
import pickle
import signal
from datetime import timedelta

import pytest

from mendel.healing import Cause, IncidentStatus
from mendel.values import Stage

pytestmark = pytest.mark.slow(20)
MODEL = "credit"
QUICK = {"healing": {"converge_within": "3s"}}
PATIENT = {"healing": {"converge_within": "10m"}, "rollback": {"silence": "3s"}}


class SlowPickle:
    """A pickle that is read as long as the file *held* is there, and is then the model of other bytes."""

    def __init__(self, model, held):
        self._model, self._held = model, str(held)

    def __reduce__(self):
        wait = "[__import__('time').sleep(0.05) for _ in iter(lambda: __import__('os').path.exists(held), False)]"
        return eval, (f"({wait}, __import__('pickle').loads(b))[1]", {"b": self._model, "held": self._held})


@pytest.fixture(scope="module")
def house(two_versions):
    """A hub, and version 1 in production; every test leaves a server that serves the production version."""
    hub = two_versions.start("hub")
    two_versions.until(lambda: two_versions.data.hub() is not None, process=hub)
    set_policy(two_versions, PATIENT)
    return two_versions


@pytest.fixture
def server(house):
    """The server that the test before left, or a new one."""
    _, *servers = house.running
    running = [process for process in servers if process.poll() is None]
    process = running[0] if running else house.start("serve")
    with house.client() as client:
        house.serves(client.deployment(MODEL).production)
    return process


def set_policy(house, policy):
    (house.root / "policy.json").write_text(json.dumps(policy))
    house.ok("policy", "set", MODEL, str(house.root / "policy.json"))


def unresolved(client):
    return [one for one in client.incidents(MODEL) if one.status.unresolved]


def test_a_hub_that_wakes_from_a_pause_blames_nobody(house, server):
    """A hub that was stopped for longer than servers may be silent listens first, and finds that nothing is wrong."""
    hub, *_ = house.running
    with house.client() as client:
        before = {one.id for one in client.incidents(MODEL)}
        paused = house.now()
        hub.send_signal(signal.SIGSTOP)
        house.until(lambda: house.now() - paused > timedelta(seconds=8))
        hub.send_signal(signal.SIGCONT)
        woke = house.now()
        house.until(lambda: any(state.received_at > woke + timedelta(seconds=5) for state in client.servers()))
        assert {one.id for one in client.incidents(MODEL)} == before
    assert server.poll() is None


def test_an_undeployed_model_serves_nothing(house, server):
    """`mendel undeploy` takes the model from the servers; promoted again, it answers again."""
    with house.client() as client:
        serving = client.deployment(MODEL).production
        assert "serves nothing" in house.ok("undeploy", MODEL, "--reason", "maintenance")
        with house.doors() as doors:
            for door in doors.all:
                house.until(lambda door=door: not door.predict(house.row(0)).ok)
        assert client.version(f"{MODEL}@{serving}").stage is Stage.SANDBOX
        assert unresolved(client) == []
        house.ok("promote", f"{MODEL}@{serving}")
        house.serves(serving)
    assert server.poll() is None


def test_a_server_that_is_stopped_is_no_incident_and_one_that_is_killed_is(house, server):
    """After SIGTERM a server is stopped and nothing opens; after SIGKILL it is silent; nothing is rolled back."""
    with house.client() as client:
        before = {one.id for one in client.incidents(MODEL)}
        assert house.stop(server) == 0
        house.until(lambda: "Every server was stopped" in "".join(client.health(MODEL).reasons))
        (state,) = client.servers()
        assert state.report.leaving
        house.until(lambda: house.now() - state.received_at > timedelta(seconds=8))
        assert {one.id for one in client.incidents(MODEL)} == before

        server = house.start("serve")
        house.serves(1)
        server.send_signal(signal.SIGKILL)
        (incident,) = house.until(lambda: unresolved(client))
        assert (incident.title, incident.resource_type) == (f"Silent server: {state.name}", "server")
        house.start("serve")
        house.until(lambda: not unresolved(client))
        assert client.deployment(MODEL).production == 1


def test_a_version_that_loads_slowly_is_not_rolled_back(house, server, trees, tmp_path):
    """A load beyond converge_within is an incident about the server, at the promotion and at the next start."""
    tree, held = tmp_path / "slow", tmp_path / "held"
    house.write_version(tree, 3)
    (model,) = [path for path in tree.iterdir() if path.suffix in {".joblib", ".pkl", ".skops"}]
    model.write_bytes(pickle.dumps(SlowPickle(model.read_bytes(), held)))
    set_policy(house, QUICK)
    with house.client() as client:
        slow = house.register(client, tree)

        def require_slow_start():
            (incident,) = house.until(lambda: unresolved(client))
            assert incident.cause is Cause.NOT_CONVERGING
            assert incident.title.startswith("Slow start: ")
            held.unlink()
            house.serves(slow)
            house.until(lambda: not unresolved(client))
            assert client.deployment(MODEL).production == slow

        held.touch()
        house.ok("promote", f"{MODEL}@{slow}")
        require_slow_start()
        assert house.stop(server) == 0
        held.touch()
        house.start("serve")
        require_slow_start()
        assert all(one.server for one in client.incidents(MODEL) if one.ref.number == slow)
        assert all(one.status is IncidentStatus.RESOLVED for one in client.incidents(MODEL))
