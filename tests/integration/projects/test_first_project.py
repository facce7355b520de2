"""What `mendel init` writes, served as it stands."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress

import httpx
import pytest

from support.waiting import until


@pytest.fixture
def served(tmp_path):
    """A first project and the address of its server."""
    root, log = tmp_path / "churn", tmp_path / "log"
    command = [sys.executable, "-m", "mendel.app.cli"]
    subprocess.run([*command, "init", "--path", root, "--ci", "none"], check=True, capture_output=True)
    ports = {"MENDEL_SERVING__GRPC_PORT": "0", "MENDEL_SERVING__ZMQ_PORT": "0"}
    arguments = [
        "serve",
        "--path",
        str(root),
        "--port",
        "0",
        "--host",
        "127.0.0.1",
        "--directory",
        str(tmp_path / "data"),
    ]
    with (
        log.open("w") as out,
        subprocess.Popen([*command, *arguments], stdout=out, stderr=out, env=os.environ | ports) as run,
    ):
        try:
            yield root, f"http://127.0.0.1:{_port(log, run)}"
        finally:
            run.send_signal(signal.SIGTERM)
            run.wait(20)


def _port(log, run):
    def answering():
        assert run.poll() is None, log.read_text()
        found = re.search(r'"rest": \[(\d+)', log.read_text())
        with suppress(httpx.TransportError):
            if found and httpx.get(f"http://127.0.0.1:{found.group(1)}/health").status_code == httpx.codes.OK:
                return found.group(1)
        return None

    return until(answering, within=60, told=log.read_text)


def test_a_first_project_serves(served):
    """Without training, hub or build: the request it is written with is answered."""
    root, address = served
    body = json.loads((root / "smoke" / "churn.json").read_text())
    answer = httpx.post(f"{address}/v1/churn/predict", json=body)
    assert answer.status_code == httpx.codes.OK, answer.text
    assert answer.json()["predictions"] == [0, 1]
    assert httpx.get(f"{address}/v2/models/churn/ready").status_code == httpx.codes.OK
