"""What a faulty model costs, for every backend: its own batch, its breaker and its readiness, and no other model."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from mendel.app.images.environments import LockEnvironments
from mendel.app.server.backend_table import BACKENDS, BackendContext
from mendel.errors import BreakerOpen, DeadlineExceeded, ModelFailed, ModelNotLoadable, NotReady
from mendel.projects import load_project
from mendel.resilience import BreakerPhase, BreakerPolicy
from mendel.serving import (
    InferenceCall,
    LocalBreakers,
    Records,
    ServingPolicy,
    TrainedClassifier,
    frame_of,
    model_program,
    single_version_model,
    write_artifact,
)
from mendel.values import DesiredState, ModelName, Table
from support.model_hosts import model_host
from support.remote_peers import RemotePeer, remote_peer, write_remote
from support.served_models import clock, new_kernel, served_version
from support.waiting import until, until_async

MODELS = """
import atexit
import ctypes
import importlib.util
import logging
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

class Model:
    def predict(self, X):
        if len(X) > 1 or X[0, 0] > 0:
            return self.answer(X)
        return X.sum(axis=1)
    def answer(self, X):
        return X.sum(axis=1)

class Right(Model):
    pass

class Slow(Model):
    def answer(self, X):
        time.sleep(0.05)
        return X.sum(axis=1)

class Printing(Model):
    def answer(self, X):
        print(X)
        os.write(1, b"more")
        return X.sum(axis=1)

class Raising(Model):
    def answer(self, X):
        raise ValueError("no")

class Exiting(Model):
    def answer(self, X):
        sys.exit(3)

class Short(Model):
    def answer(self, X):
        return []

class Hanging(Model):
    def answer(self, X):
        end = Path(__file__).with_name("let_go")
        end.with_name("began").touch()
        deadline = time.monotonic() + 60
        while not end.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return X.sum(axis=1)

class Ending(Model):
    def answer(self, X):
        os._exit(3)

class Crashing(Model):
    def answer(self, X):
        ctypes.string_at(0)

class Leaking(Model):
    held = []
    def answer(self, X):
        while True:
            self.held.append(bytearray(32 << 20))

class Stuck(Model):
    def __init__(self):
        time.sleep(60)

class Parent(Model):
    def answer(self, X):
        return [subprocess.Popen(["sleep", "60"]).pid]

class Telling(Model):
    def __init__(self):
        atexit.register(logging.getLogger("model").error, "at exit")
    def answer(self, X):
        for number in range(300):
            logging.getLogger("model").warning("line %d", number)
        warnings.warn(f"cannot take {X.tolist()}")
        return X.sum(axis=1)
    def close(self):
        logging.getLogger("model").error("closed")
        raise ValueError("secret")

class Alone(Model):
    def answer(self, X):
        return [importlib.util.find_spec("mendel") is None]
"""
OWN_PYTHON = LockEnvironments(Path, builds=False)
OTHERS = ("Stuck", "Parent", "Alone", "Telling")
SOUND = ("Right", "Slow", "Printing")
FAULTY = ("Raising", "Exiting", "Short", "Hanging")
DEADLY = ("Ending", "Crashing", "Leaking")
POLICY = ServingPolicy(
    predict_timeout=timedelta(milliseconds=300),
    model_memory_bytes=300 << 20,
    breaker=BreakerPolicy(minimum_calls=2, open_for=timedelta(minutes=5)),
)
PATIENT = ServingPolicy(predict_timeout=timedelta(seconds=30))
BOTH = ("thread", "process")
CASES = [(kind, backend) for backend in BACKENDS if backend != "accelerated" for kind in FAULTY]
CASES += [(kind, "process") for kind in DEADLY]
"""In a thread, a deadly model ends the worker process, which the backend cannot prevent."""


@pytest.fixture(scope="module")
def run():
    with model_host() as directory:
        yield directory


@pytest.fixture
def project(tmp_path):
    kinds = (*SOUND, *FAULTY, *DEADLY, *OTHERS)
    (tmp_path / "models.py").write_text(MODELS)
    sections = [f"  {kind.lower()}: {{predictor: {{module: models, class_name: {kind}}}}}" for kind in kinds]
    (tmp_path / "mlserver.yaml").write_text("\n".join(["classifiers:", *sections]))
    return load_project(tmp_path)


@pytest.fixture
def load(tmp_path, run, project):
    """Loads a model of a kind into a process, which equal loads share; all are killed in the end."""
    with ExitStack() as loaded:

        def load_(kind: str, policy: ServingPolicy):
            digest = write_artifact(TrainedClassifier(name=kind.lower()), tmp_path / kind, project=project)
            loads = BACKENDS["process"](BackendContext(run=run, policy=policy, environments=OWN_PYTHON))
            backend = loads(tmp_path / kind, digest=digest, project=project)
            loaded.callback(backend.kill)
            return backend

        yield load_


@pytest.fixture
def serving(tmp_path, run, project):
    """Serves a model of a kind beside one that is right; gives the kernel."""
    trees = {}

    def desired(name: str, number: int, kind: str, peer: RemotePeer | None):
        tree = tmp_path / name
        digest = write_artifact(TrainedClassifier(name=kind.lower()), tree, project=project)
        if peer is not None:
            peer.serve(name, tree, digest)
            tree = tree.with_name(f"{name}-remote")
            digest = write_remote(tree, peer.address("grpc"), model=name)
        trees[digest] = tree
        return single_version_model(ModelName(name), served_version(number, digest, None))

    @asynccontextmanager
    async def serve(kind: str, backend: str):
        loads = BACKENDS[backend](BackendContext(run=run, policy=POLICY, environments=OWN_PYTHON))
        breakers = LocalBreakers(POLICY.breaker, clock)
        peer = stack.enter_context(remote_peer("grpc", project=project)) if backend == "remote" else None
        models = (desired("tried", 1, kind, peer), desired("right", 1, "Right", peer))
        kernel = new_kernel(None, POLICY, load_backend=loads, breakers=breakers, project=project)
        async with kernel:
            lines = await kernel.apply(DesiredState(revision=1, models=models, key_hashes={}), trees.__getitem__)
            assert [line.error for line in lines] == [None, None]
            yield kernel, breakers
            (tmp_path / "let_go").touch()

    with ExitStack() as stack:
        yield serve


async def answer(kernel, model, first=1.0):
    rows = Records(rows=[{"a": first, "b": 10.0}])
    return (await kernel.infer(InferenceCall(model=model, input=rows, door="rest"))).predictions


def state_of(kernel, model):
    return next(one for one in kernel.status().models if one.model == model)


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("kind", SOUND)
async def test_a_sound_model_is_answered_and_stays_ready(serving, backend, kind):
    """A slow model and one that prints answer like any other."""
    async with serving(kind, backend) as (kernel, breakers):
        assert [await answer(kernel, "tried", first) for first in (1.0, 2.0)] == [[11.0], [12.0]]
        assert state_of(kernel, "tried").ready
        assert breakers.phase(kernel.served("tried").ref) is BreakerPhase.CLOSED


@pytest.mark.parametrize(("kind", "backend"), CASES)
async def test_a_fault_costs_its_batch_and_is_told(serving, backend, kind):
    """Each fault fails its batch, opens the breaker, is told by the readiness, and leaves the other model alone."""
    async with serving(kind, backend) as (kernel, breakers):
        version = kernel.served("tried")
        costs = await asyncio.gather(*(answer(kernel, "tried") for _ in range(2)), return_exceptions=True)
        assert [type(cost) for cost in costs] == [ModelFailed, ModelFailed], costs
        assert await answer(kernel, "right") == [11.0]
        assert breakers.phase(version.ref) is BreakerPhase.OPEN
        assert not state_of(kernel, "tried").ready
        assert state_of(kernel, "tried").error
        assert state_of(kernel, "right").ready
        with pytest.raises((BreakerOpen, NotReady)):
            await answer(kernel, "tried", 0.0)
        if backend == "process":
            await until_async(lambda: version.died is None)


async def test_a_thread_that_returns_late_serves_again(serving, tmp_path):
    """While every thread hangs, calls fail at once and the model is not ready; it is ready when the calls return."""
    async with serving("Hanging", "thread") as (kernel, _):
        version = kernel.served("tried")
        with pytest.raises(ModelFailed, match="took longer than 0\\.3 s"):
            await answer(kernel, "tried")
        assert "more than 0.3 s" in version.died
        with pytest.raises(NotReady):
            await answer(kernel, "tried", 0.0)
        assert kernel.stuck
        (tmp_path / "let_go").touch()
        await until_async(lambda: version.died is None)
        assert await answer(kernel, "tried", 0.0) == [10.0]
        assert not kernel.stuck


def frame(first):
    return frame_of(Table({"a": np.array([first]), "b": np.array([10.0])}), None)


def soon():
    return time.monotonic() + 20


def test_a_caller_that_stops_waiting_leaves_the_turn_to_others(load, tmp_path):
    """A worker's deadline passes while another's call runs; later calls are answered by the same process."""
    one, other = load("Hanging", PATIENT), load("Hanging", PATIENT)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(one.predict, frame(1.0), soon())
        until((tmp_path / "began").exists)
        with pytest.raises(DeadlineExceeded):
            other.predict(frame(0.0), time.monotonic() + 0.1)
        (tmp_path / "let_go").touch()
        assert running.result().predictions == [11.0]
    assert other.predict(frame(0.0), soon()).predictions == [10.0]
    assert other.place.restarts == 0


def test_a_hanging_call_of_a_dead_worker_is_ended(load, run, tmp_path):
    """The process ends itself although nobody waits for the call, and a new one answers a worker that waits."""
    backend = load("Hanging", POLICY)
    (address,) = run.glob("m[0-9]*")
    with socket.socket(socket.AF_UNIX) as worker:
        worker.connect(str(address))
        model_program.send(worker, {"form": {"contract": None, "dataframe": False, "forget_names": False}})
        head, parts = model_program.packed_columns(frame(1.0).columns, frame(1.0).floats)
        model_program.send(worker, {**head, "proba": False}, *parts)
        until((tmp_path / "began").exists)
    assert backend.predict(frame(0.0), soon()).predictions == [10.0]
    assert backend.place.restarts == 1


def test_a_worker_joins_while_the_process_starts_again(load):
    """Its load waits for the new process, and the version is not blamed."""
    one = load("Right", PATIENT)
    os.kill(one.place.pid, signal.SIGKILL)
    until(lambda: one.died)
    assert load("Right", PATIENT).predict(frame(1.0), soon()).predictions == [11.0]


def test_a_python_that_cannot_run_is_told_at_once(load):
    """The load names the setting; the version is not blamed, and other loads go on."""
    with pytest.raises(NotReady, match="/absent/python"):
        load("Right", replace(PATIENT, model_python="/absent/python"))
    assert load("Right", PATIENT).predict(frame(1.0), soon()).predictions == [11.0]


def test_a_load_that_hangs_ends_with_its_process(load, run):
    """After load_timeout the version has failed to load, and its process is gone."""
    with pytest.raises(ModelNotLoadable, match=r"longer than serving.load_timeout \(1 s\)"):
        load("Stuck", replace(PATIENT, load_timeout=timedelta(seconds=1)))
    until(lambda: not list(run.glob("m[0-9]*")))


def test_what_a_model_started_ends_with_its_process(load):
    """A process that the model started does not outlive the model's process."""
    backend = load("Parent", PATIENT)
    (started,) = backend.predict(frame(1.0), soon()).predictions
    assert model_program.resident_bytes(str(started))
    os.kill(backend.place.pid, signal.SIGKILL)
    until(lambda: not model_program.resident_bytes(str(started)))


def test_a_call_that_never_reached_the_ended_process_is_answered(load):
    """The process ends between two calls, and the second does not fail, whether or not the end was told before."""
    backend = load("Right", PATIENT)
    for _ in range(3):
        assert backend.predict(frame(1.0), soon()).predictions == [11.0]
        pid = backend.place.pid
        os.kill(pid, signal.SIGKILL)
        until(lambda pid=pid: not model_program.resident_bytes(str(pid)))


def test_sigterm_leaves_the_end_to_the_server(load):
    """A service manager sends it to all processes at once; the server then finishes its requests first."""
    backend = load("Right", PATIENT)
    os.kill(backend.place.pid, signal.SIGTERM)
    assert backend.predict(frame(1.0), soon()).predictions == [11.0]
    assert backend.place.restarts == 0


def test_what_a_model_logs_until_its_end_is_in_the_log(load):
    """Its lines up to 100 per second and apart from them its errors, its last words, and no text of an exception."""
    with capture_logs() as lines:
        backend = load("Telling", PATIENT)
        assert backend.predict(frame(1.0), soon()).predictions == [11.0]
        backend.kill()
    told = [line["event"] for line in lines]
    numbered = [event for event in told if event.startswith("line ")]
    assert numbered[:100] == [f"line {number}" for number in range(100)]
    assert len(numbered) < 300, "at most 100 lines per second"
    assert {"closed", "model_not_closed", "at exit"} <= set(told)
    assert not [line for line in lines if "secret" in str(line) or "cannot take" in str(line)]
    assert any(int(line["dropped"]) > 0 for line in lines if "dropped" in line)
    assert all(line["model"] == "Telling" for line in lines)


def test_a_file_of_the_project_replaces_no_standard_module(tmp_path, load):
    """As in a thread: libraries that import the standard module get that one."""
    (tmp_path / "statistics.py").write_text("raise RuntimeError('the project')")
    (tmp_path / "models.py").write_text(f"{MODELS}\nimport statistics\n")
    assert load("Right", PATIENT).died is None


def test_another_python_gets_no_path_of_the_servers(tmp_path, project, monkeypatch):
    """PYTHONPATH names files of the server's Python, so another Python does not get it; other variables it gets."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nenv > {tmp_path}/seen\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", "/absent")
    monkeypatch.setenv("REGION", "north")
    digest = write_artifact(TrainedClassifier(name="right"), tmp_path / "Right", project=project)
    with model_host() as host:
        loads = BACKENDS["process"](
            BackendContext(run=host, policy=replace(PATIENT, model_python=str(python)), environments=OWN_PYTHON)
        )
        loads(tmp_path / "Right", digest=digest, project=project).kill()
    seen = (tmp_path / "seen").read_text().splitlines()
    assert "REGION=north" in seen
    assert "PYTHONPATH=/absent" not in seen


def test_a_python_without_mendel_runs_models(tmp_path, project):
    """The process of a model needs the standard library, numpy and the model's own packages, and no Mendel."""
    site, only = Path(np.__file__).parent.parent, tmp_path / "only"
    only.mkdir()
    for needed in site.glob("numpy*"):
        (only / needed.name).symlink_to(needed)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={only} exec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    digest = write_artifact(TrainedClassifier(name="alone"), tmp_path / "Alone", project=project)
    with model_host() as host:
        loads = BACKENDS["process"](
            BackendContext(run=host, policy=replace(PATIENT, model_python=str(python)), environments=OWN_PYTHON)
        )
        backend = loads(tmp_path / "Alone", digest=digest, project=project)
        assert backend.predict(frame(1.0), soon()).predictions == [True]
        backend.kill()
