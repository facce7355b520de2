"""What people get wrong, through the installed command line and real sockets: a clear error, and nothing lost."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import uuid
from contextlib import contextmanager
from pathlib import Path

import httpx
import joblib
import pytest

from mendel.healing import Cause

HOST, MODEL = "127.0.0.1", "credit"
CONVERGE = {"healing": {"converge_within": "3s", "autonomy": {"rollback": "act"}}}


@pytest.fixture(scope="module")
def live(two_versions):
    """The installation with two versions, up, version 1 in production."""
    with two_versions.up():
        two_versions.serves(1)
        yield two_versions


@pytest.fixture
def empty(install):
    """An installation in which nothing happened yet."""
    return install()


@contextmanager
def listening():
    """A port somebody else listens on."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        yield taken.getsockname()[1]


# -- the project's file --


@pytest.mark.parametrize("command", [("tag",), ("serve",), ("up",)], ids=" ".join)
def test_a_project_without_its_file_is_refused(empty, command):
    """Where a project is named and has no mlserver.yaml, the command says which file it misses and where it looked."""
    (empty.root / "nothing").mkdir()
    if command == ("serve",):
        empty.settings["MENDEL_HUB__URL"] = f"http://{HOST}:9"
    said = empty.refused(*command, "--path", "nothing")
    assert "mlserver.yaml" in said
    assert str(empty.root / "nothing") in said


SOUND = "classifier:\n  name: one\npredictor:\n  module: model\n  class_name: Model\n"
MISTAKES = {
    "an unknown section": (f"{SOUND}monitorin:\n  target: y\n", 6, "monitoring"),
    "an unknown key": (f"{SOUND}server:\n  prot: 80\n", 7, "port"),
    "no YAML": (f"{SOUND}server: [80\n", 7, "YAML"),
    "a wrong type": (f"{SOUND}server:\n  port: many\n", 7, "port"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("command", [("tag",), ("up",)], ids=" ".join)
def test_a_malformed_project_file_is_refused_with_its_line(empty, command, mistake):
    """A mistake in mlserver.yaml is told by file and line, with the nearest key that exists."""
    text, line, nearest = MISTAKES[mistake]
    (empty.root / "mlserver.yaml").write_text(text, encoding="utf-8")
    said = empty.refused(*command)
    assert f"mlserver.yaml:{line}:" in said
    assert nearest in said


# -- the directory and the ports --


def test_a_taken_port_is_named(empty):
    """Hub, server and both together refuse a port in use by naming it, and end with 1; on free ports they start."""
    with listening() as port:
        assert f"{HOST}:{port}" in empty.refused("hub", "--port", str(port))
        assert f"{HOST}:{port}" in empty.refused("up", "--hub-port", str(port))
        empty.settings["MENDEL_HUB__URL"] = f"http://{HOST}:9"
        assert f"{port}" in empty.refused("serve", "--port", str(port))
        del empty.settings["MENDEL_HUB__URL"]
        said = empty.refused("up", "--wait", "--port", str(port))
        assert f"{port}" in said
        assert "up.log" in said
    assert empty.data.hub() is None
    assert "Mendel is up in the background" in empty.ok("up", "--wait")
    assert "already runs" in empty.refused("up", "--wait")
    assert "Mendel is down" in empty.ok("down")
    assert "No 'mendel up' runs" in empty.refused("down")


def test_a_directory_of_a_newer_schema_is_refused(empty):
    """Commands, hub and up refuse a directory that a newer Mendel wrote, and leave it as it is."""
    empty.ok("keys", "add", "--scope", "read", "--label", "ann")
    with sqlite3.connect(empty.data.database) as database:
        database.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    database.close()
    for command in ("models", "hub", "up"):
        assert "schema version 99" in empty.refused(command)
    with sqlite3.connect(empty.data.database) as database:
        found = database.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchall()
    database.close()
    assert found == [("99",)]


def test_a_second_up_on_one_directory_is_refused(live):
    """A second `mendel up`, hub or server on a directory ends with 1 and says who has it; the first goes on."""
    again = live.beside()
    assert "Another 'mendel up' already runs" in again.refused("up")
    assert "already runs" in again.refused("hub")
    assert "already uses" in again.refused("serve")
    live.serves(1)


# -- requests --

GOOD = {"age": 21.0, "income": 1001.0}
REQUESTS = {
    "a missing feature": ({"age": 30.0}, "income"),
    "an extra feature": ({**GOOD, "shoe_size": 43}, "shoe_size"),
    "a feature of the wrong type": ({**GOOD, "age": "thirty"}, "age"),
    "a feature that is null": ({**GOOD, "income": None}, "income"),
    "a feature that is not a number": ({**GOOD, "age": float("nan")}, "age"),
    "an infinite feature": ({**GOOD, "income": float("-inf")}, "income"),
}
REFUSALS = {"rest": "400", "grpc": "INVALID_ARGUMENT", "zmq": '"code": "invalid_request"'}
UNKNOWN = {"rest": "404", "grpc": "NOT_FOUND", "zmq": '"code": "not_found"'}


@pytest.mark.parametrize("mistake", REQUESTS)
def test_a_wrong_request_is_refused_by_its_feature(live, mistake):
    """Every door refuses a request that the signature does not allow, names the feature, and answers the next one."""
    sent, feature = REQUESTS[mistake]
    with live.doors() as doors:
        for door in doors.all:
            refused = door.predict(sent)
            assert not refused.ok
            assert not refused.model_fault
            assert REFUSALS[door.name] in refused.detail
            assert repr(feature) in refused.detail
            assert door.predict(GOOD).ok


def test_an_unknown_model_is_not_found(live):
    """Every door answers a request for a model that there is not with its form of 404, and names it."""
    with live.doors() as doors:
        for door in doors.all:
            door._model = "nobody"
            refused = door.predict(GOOD)
            assert not refused.ok
            assert UNKNOWN[door.name] in refused.detail
            assert "nobody" in refused.detail


# -- labels --


def test_a_label_of_an_unknown_prediction_waits_for_it(live):
    """A label whose prediction nobody knows is accepted, counts as unmatched, and joins when the prediction arrives."""
    unknown = str(uuid.uuid4())
    with httpx.Client(
        base_url=f"http://{HOST}:{live.ports['rest']}", headers={"authorization": f"Bearer {live.data.secret()}"}
    ) as server:
        told = server.post("/monitoring/labels", json={"labels": [{"prediction_id": unknown, "true_label": 1}]})
        assert told.status_code == 202, told.text
        before = live.until(lambda: found if (found := stats(live)).unmatched == 1 else None)
        made = {"model": MODEL, "records": [GOOD], "predictions": [0], "prediction_ids": [unknown]}
        told = server.post("/monitoring/predictions", json=made)
        assert told.status_code == 202, told.text
    after = live.until(lambda: found if (found := stats(live)).unmatched == 0 else None)
    assert after.labelled == before.labelled + 1


def stats(installation):
    with installation.client() as client:
        return client.stats(MODEL)


# -- models that cannot be served --


def test_a_version_that_cannot_be_loaded_changes_nothing_for_users(live, tmp_path):
    """When a promoted version cannot be loaded, the old one answers everything, an incident opens, and it returns."""
    live.write_version(tmp_path / "broken", 3)
    (tmp_path / "broken" / "model.pkl").write_bytes(b"no pickle at all")
    policy = tmp_path / "policy.yaml"
    policy.write_text(json.dumps(CONVERGE))
    live.ok("policy", "set", MODEL, str(policy))
    with live.client() as client, live.doors() as doors:
        broken = live.register(client, tmp_path / "broken", without_parity="to see it fail")
        live.ok("promote", f"{MODEL}@{broken}")

        def incident():
            assert all((answer := door.predict(GOOD)).ok and answer.version == 1 for door in doors.all)
            return [
                one for one in client.incidents(MODEL) if (one.ref.number, one.cause) == (broken, Cause.LOAD_FAILURE)
            ]

        (found,) = live.until(incident)
        assert found.title == f"Version cannot be loaded: {MODEL}@{broken}"
        live.until(lambda: client.deployment(MODEL).production == 1)
        assert all(door.predict(GOOD).version == 1 for door in doors.all)
    assert f"{MODEL}@{broken}" in live.ok("incidents")


class Poison:
    """What a pickle can do to whoever reads it: here, write down who that was."""

    def __init__(self, witness):
        self._witness = str(witness)

    def __reduce__(self):
        return exec, (f"import os; open({self._witness!r}, 'a').write(f'{{os.getpid()}}\\n')",)


def test_the_control_plane_never_unpickles(live, tmp_path):
    """A poisoned pickle that is promoted and monitored runs in workers and parity checks, never in the hub."""
    witness = tmp_path / "witness"
    live.write_version(tmp_path / "poisoned", 4)
    joblib.dump(Poison(witness), tmp_path / "poisoned" / "model.pkl")
    with live.client() as client, live.doors() as doors:
        poisoned = live.register(client, tmp_path / "poisoned", without_parity="to see it fail")
        live.ok("promote", f"{MODEL}@{poisoned}")
        live.until(witness.exists)
        for _ in range(3):
            assert all((answer := door.predict(GOOD)).ok and answer.version == 1 for door in doors.all)
            client.observe(MODEL)
        live.until(lambda: aliased(live) is not None)
        assert str(poisoned) in live.ok("card", f"{MODEL}@{poisoned}")
        live.until(lambda: client.deployment(MODEL).production == 1)
        assert all(door.predict(GOOD).version == 1 for door in doors.all)
    ran = {int(line) for line in witness.read_text().split()}
    assert live.data.hub().pid not in ran
    assert os.getpid() not in ran
    assert supervisor_of(live) not in ran
    assert ran & workers_of(live)
    assert len(ran - workers_of(live)) <= 1, "the process in which the hub lets parity be measured"


def aliased(installation):
    """The MLflow version that the alias of production points to."""
    with sqlite3.connect(f"file:{installation.data.tracking}?mode=ro", uri=True) as database:
        found = database.execute(
            "SELECT version FROM registered_model_aliases WHERE name = ? AND alias = 'production'", (MODEL,)
        ).fetchone()
    database.close()
    return None if found is None else int(found[0])


def supervisor_of(installation):
    """Process id of the server."""
    return json.loads((installation.data.server / "server.json").read_text())["pid"]


def workers_of(installation):
    """Process ids of the server's children."""
    supervisor = supervisor_of(installation)
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text()
    return {int(pid) for pid in children.split()}
