"""The checks of conformance are fair to a server that Mendel's authors did not write: Seldon MLServer."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from mendel.conformance import Report, Transport, Verdict, check
from support.ports import free_ports
from support.programs import mlserver_python
from support.waiting import until

TRAINING = """
import joblib, numpy as np
from sklearn.linear_model import LogisticRegression
rows = np.random.default_rng(0).normal(size=(100, 4))
joblib.dump(LogisticRegression().fit(rows, rows.sum(axis=1) > 0), "model.joblib")
"""
MODEL = {
    "name": "credit",
    "implementation": "mlserver_sklearn.SKLearnModel",
    "parameters": {"uri": "./model.joblib", "version": "v1"},
    "inputs": [{"name": "x", "datatype": "FP64", "shape": [-1, 4]}],
    "outputs": [{"name": "predict", "datatype": "BOOL", "shape": [-1, 1]}],
}
WITHOUT_ERROR_TEXT = {
    "rest.error.missing_inputs",
    "rest.error.not_json",
    "rest.error.unknown_datatype",
    "rest.error.wrong_element",
    "rest.error.wrong_shape",
}
"""MLServer 1.7 answers these with 422 and ``detail``, or with 500 and a plain text; the error has no text."""


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Iterator[Report]:
    """What the kit finds at a running MLServer."""
    python, place = mlserver_python(), tmp_path_factory.mktemp("mlserver")
    http, grpc, metrics = free_ports(3)
    ports = {"http_port": http, "grpc_port": grpc, "metrics_port": metrics}
    settings = {"host": "127.0.0.1", "debug": False, "parallel_workers": 0, **ports}
    (place / "settings.json").write_text(json.dumps(settings))
    (place / "model-settings.json").write_text(json.dumps(MODEL))
    subprocess.run([python, "-c", TRAINING], cwd=place, check=True)
    with (place / "log").open("wb") as log:
        command = [python.with_name("mlserver"), "start", "."]
        process = subprocess.Popen(command, cwd=place, stdout=log, stderr=log, env={**os.environ, "HOME": str(place)})
    try:
        until(lambda: ready(http), within=120, told=(place / "log").read_text)
        yield check(f"http://127.0.0.1:{http}", grpc=f"127.0.0.1:{grpc}", model="credit")
    finally:
        process.kill()
        process.wait()


def ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/v2/models/credit/ready").is_success
    except httpx.TransportError:
        return False


@pytest.mark.slow(10)
def test_only_the_texts_of_errors_fail(report):
    """Of the required points, only errors over REST without a JSON object ``error`` fail; nothing is undecided."""
    assert {one.check for one in report.findings if one.violates} == WITHOUT_ERROR_TEXT
    assert [one.check for one in report.findings if one.verdict is Verdict.UNDECIDED] == []
    assert {one.check for one in report.failed if one.transport is Transport.GRPC} <= {"grpc.large_message"}


def test_what_mlserver_does_not_announce_is_skipped(report):
    """Versions, extensions and services that MLServer does not announce or have are skipped."""
    skipped = {one.check for one in report.findings if one.verdict is Verdict.SKIPPED}
    assert {"rest.model.versions", "rest.binary.inputs", "rest.statistics", "grpc.health_service"} <= skipped
