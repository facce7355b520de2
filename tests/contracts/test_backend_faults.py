"""What a faulty model costs, for every backend: its own batch, its breaker and its readiness, and no other model."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from mendel.app.server.backend_table import BACKENDS, BackendContext
from mendel.errors import BreakerOpen, ModelFailed, NotReady
from mendel.projects import load_project
from mendel.resilience import BreakerPhase, BreakerPolicy
from mendel.serving import (
    InferenceCall,
    LocalBreakers,
    Records,
    ServingPolicy,
    TrainedClassifier,
    single_version_model,
    write_artifact,
)
from mendel.values import DesiredState, ModelName
from support.model_hosts import model_host
from support.served_models import clock, new_kernel, served_version
from support.waiting import until_async

MODELS = """
import ctypes
import os
import sys
import time
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
"""
SOUND = ("Right", "Slow", "Printing")
FAULTY = ("Raising", "Exiting", "Short", "Hanging")
DEADLY = ("Ending", "Crashing", "Leaking")
POLICY = ServingPolicy(
    predict_timeout=timedelta(milliseconds=300),
    model_memory_bytes=300 << 20,
    breaker=BreakerPolicy(minimum_calls=2, open_for=timedelta(minutes=5)),
)
BOTH = ("thread", "process")
CASES = [(kind, backend) for backend in BOTH for kind in FAULTY] + [(kind, "process") for kind in DEADLY]
"""In a thread, a deadly model ends the worker process, which the backend cannot prevent."""


@pytest.fixture(scope="module")
def run():
    with model_host() as directory:
        yield directory


@pytest.fixture
def serving(tmp_path, run):
    """Serves a model of a kind beside one that is right; gives the kernel."""
    kinds = (*SOUND, *FAULTY, *DEADLY)
    (tmp_path / "models.py").write_text(MODELS)
    sections = [f"  {kind.lower()}: {{predictor: {{module: models, class_name: {kind}}}}}" for kind in kinds]
    (tmp_path / "mlserver.yaml").write_text("\n".join(["classifiers:", *sections]))
    project = load_project(tmp_path)
    trees = {}

    def desired(name: str, number: int, kind: str):
        tree = tmp_path / name
        digest = write_artifact(TrainedClassifier(name=kind.lower()), tree, project=project)
        trees[digest] = tree
        return single_version_model(ModelName(name), served_version(number, digest, None))

    @asynccontextmanager
    async def serve(kind: str, backend: str):
        loads = BACKENDS[backend](BackendContext(run=run, policy=POLICY))
        breakers = LocalBreakers(POLICY.breaker, clock)
        models = (desired("tried", 1, kind), desired("right", 1, "Right"))
        kernel = new_kernel(None, POLICY, load_backend=loads, breakers=breakers, project=project)
        async with kernel:
            lines = await kernel.apply(DesiredState(revision=1, models=models, key_hashes={}), trees.__getitem__)
            assert [line.error for line in lines] == [None, None]
            yield kernel, breakers
            (tmp_path / "let_go").touch()

    return serve


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
