"""`mendel hub` as a process: alone on its directory and port, healthy, ended by a signal, found by others."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing

import httpx
import pytest

from mendel import connect
from mendel.adapters.sql import SCHEMA_VERSION
from mendel.app.directory import DataDirectory
from mendel.errors import HubUnavailable
from support.principals import ME
from support.waiting import until


def mendel(*arguments, **environment):
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MENDEL_")}
    return subprocess.run(
        [sys.executable, "-m", "mendel.app.cli", *map(str, arguments)],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_health_tells_of_every_service(over_http):
    """Every service of the contract is probed and has one of four words."""
    answer = httpx.get(f"{over_http.address.url}/health")
    told = answer.json()
    assert answer.status_code == 200
    assert set(told["services"]) == {
        "mlflow",
        "redis",
        "message_queue",
        "postgres",
        "external_api",
        "database",
        "lake",
    }
    assert {service["status"] for service in told["services"].values()} <= {"healthy", "degraded", "disabled"}
    assert told["status"] in {"healthy", "degraded"}
    assert told["failing_chores"] == {}
    assert httpx.get(f"{over_http.address.url}/live").status_code == 200
    assert httpx.get(f"{over_http.address.url}/ready").status_code == 200


def test_a_second_hub_is_refused(over_http):
    """The directory has one hub; the second says where the first is, and ends with 1."""
    second = mendel("hub", "--port", 0, "-C", over_http.directory)
    assert second.returncode == 1
    running = over_http.address
    assert second.stderr.splitlines() == [
        (
            f"error: Another hub already runs on the data directory {over_http.directory} "
            f"at {running.url} (pid {running.pid})."
        ),
        "  Stop the other hub, or name another data directory with --directory.",
    ]
    assert over_http.client.models() is not None


def test_a_port_in_use_is_told(tmp_path):
    """Somebody on the port: one sentence, what to do, exit code 1, and the directory is free again."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        refused = mendel("hub", "--port", port, "-C", tmp_path / "d")
    assert refused.returncode == 1
    sentence, remedy = refused.stderr.splitlines()
    assert sentence == f"error: The hub cannot listen on 127.0.0.1:{port}: Address already in use."
    assert "--port" in remedy
    with DataDirectory(tmp_path / "d").owned():
        pass


def test_commands_talk_to_the_running_hub(over_http):
    """While a hub holds the directory, commands reach it, and the ledger says who asked."""
    model = over_http.new_model()
    (ref,) = over_http.promoted(model)
    listed = mendel("versions", model, "-C", over_http.directory)
    assert f"{ref.number}        production" in listed.stdout
    done = mendel("healing", "pause", "--model", model, "--reason", "x", "-C", over_http.directory)
    assert (done.returncode, done.stdout) == (0, f"Healing is paused for {model}.\n")
    assert over_http.events(model, "healing.paused")[0].actor == ME


def test_a_newer_directory_is_refused_untouched(tmp_path):
    """Commands and hub on a directory of a newer Mendel say so, end with 1, and change no byte of it."""
    directory = tmp_path / ".mendel"
    with connect(directory=str(directory)) as client:
        client.set_policy("credit", {})
    with closing(sqlite3.connect(directory / "mendel.db")) as database:
        database.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", (str(SCHEMA_VERSION + 1),))
        database.commit()
    before = (directory / "mendel.db").read_bytes()
    for command in (("models",), ("hub", "--port", "0")):
        refused = mendel(*command, "-C", directory)
        assert refused.returncode == 1
        assert refused.stderr.splitlines() == [
            (
                f"error: The database has schema version {SCHEMA_VERSION + 1}; "
                f"the installed Mendel supports versions up to {SCHEMA_VERSION}."
            ),
            "  Upgrade Mendel, or name another data directory with --directory.",
        ]
        assert refused.stdout == ""
    assert (directory / "mendel.db").read_bytes() == before


def test_a_hub_that_was_killed_leaves_nothing_in_the_way(run_hub, tmp_path):
    """
    A hub anchors the ledger by itself at the pace it is told. After SIGKILL its address counts for nothing; the
    directory opens, what it anchored is vouched for, and the next hub takes over what waited.
    When that hub stops, it signs all entries.
    """
    directory = tmp_path / ".mendel"
    with run_hub(directory, MENDEL_HUB__ANCHOR_EVERY="100ms") as first:
        with connect(directory=str(directory)) as client:
            client.set_policy("churn", {})
            until(lambda: (proof := client.verify_ledger()).anchored == proof.last)
        first.send_signal(signal.SIGKILL)
        first.wait(10)
        data = DataDirectory(directory)
        assert (directory / "hub.json").exists()
        assert data.hub() is None
        with connect(directory=str(directory)) as client:
            assert client.embedded
            assert client.verify_ledger().anchors >= 1
            client.set_policy("credit", {"healing": {"bake": "1m"}})
    with run_hub(directory) as second:
        with connect(directory=str(directory)) as client:
            assert not client.embedded
            assert client.policy("credit").version == 1
            assert client.verify_ledger().last >= 2
        require_end(second, directory, signal.SIGTERM)
    with connect(directory=str(directory)) as client:
        proof = client.verify_ledger()
    assert (proof.findings, proof.anchored) == ((), proof.last)


def test_a_hub_ends_when_told(run_hub, tmp_path):
    """SIGINT, and SIGTERM in the test above, end it in seconds, long polls notwithstanding, and free the directory."""
    directory = tmp_path / ".mendel"
    with run_hub(directory) as process:
        require_end(process, directory, signal.SIGINT)


def require_end(process, directory, number):
    """Send the signal to the hub while a server polls it; it ends, and its directory is free."""
    running, secret = DataDirectory(directory).hub(), DataDirectory(directory).secret()
    with closing(socket.create_connection(("127.0.0.1", httpx.URL(running.url).port))) as waiting:
        head = f"GET /api/v1/desired?after=99&wait=60 HTTP/1.1\r\nhost: localhost\r\nx-api-key: {secret}"
        waiting.sendall(f"{head}\r\n\r\n".encode())
        process.send_signal(number)
        assert process.wait(15) in {0, -number, 128 + number}
    assert DataDirectory(directory).hub() is None
    with DataDirectory(directory).owned():
        pass


def test_nobody_there_is_hub_unavailable(tmp_path):
    """A URL where nobody listens is HubUnavailable with what to try."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    with connect(f"http://127.0.0.1:{port}", key="x") as client, pytest.raises(HubUnavailable, match="mendel up"):
        client.models()


def test_what_listens_there_may_be_no_hub(tmp_path):
    """A port that answers something else than a hub is told as that."""
    command = [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        text=True,
    ) as other:
        try:
            port = other.stdout.readline().split(" port ")[1].split()[0]
            with (
                connect(f"http://127.0.0.1:{port}", key="x") as client,
                pytest.raises(HubUnavailable, match="is not a hub; its answer was 404"),
            ):
                client.models()
        finally:
            other.terminate()
