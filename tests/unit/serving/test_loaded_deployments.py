"""Whose fault a failed load is, and what serves beside it."""

from __future__ import annotations

import asyncio
import errno
import threading
from dataclasses import replace
from itertools import count

import pytest

from mendel.adapters.threads import ThreadBackend
from mendel.errors import DeadlineExceeded, DigestMismatch, ModelFailed, ModelNotLoadable, NotSwappable
from mendel.serving import ImageIdentity, InferenceCall, Matrix, ServerIdentity, ServingPolicy, load_predictor
from mendel.serving.loaded_deployments import is_at_fault
from mendel.values import Digest, ModelName, Route
from support.waiting import until_async

CANARY = (Route(version=1, share=0.5), Route(version=2, share=0.5))


def caused(cause):
    error = ModelNotLoadable("The model cannot be loaded.")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "error",
    [
        ModelFailed("golden input"),
        caused(None),
        caused(ModuleNotFoundError("mymod")),
        caused(FileNotFoundError(2, "x")),
    ],
    ids=["fails its golden input", "no pickle", "missing module", "missing file"],
)
def test_a_version_is_at_fault_for_what_its_own_load_raised(error):
    """The files had their digest; what then fails is the version's."""
    assert is_at_fault(error)


@pytest.mark.parametrize(
    "error",
    [
        DigestMismatch("changed"),
        NotSwappable("memory budget"),
        caused(MemoryError()),
        caused(ConnectionRefusedError()),
        caused(OSError(errno.ENOSPC, "full")),
        caused(caused(OSError(errno.EMFILE, "too many files"))),
    ],
    ids=["damaged files", "no room", "out of memory", "network", "full disk", "no descriptors"],
)
def test_a_version_is_not_at_fault_for_its_machine(error):
    """A disk, memory or network that failed says nothing about the version, however deep the cause lies."""
    assert not is_at_fault(error)


def line_of(kernel, model="sum"):
    return next(line for line in kernel.convergence if line.model == model)


async def answered(kernel, calls=20):
    """The versions that answer."""
    call = InferenceCall(model="sum", input=Matrix(rows=[[1.0, 2.0, 3.0]]), door="rest")
    return {(await kernel.infer(call)).metadata.version for _ in range(calls)}


async def test_a_canary_that_cannot_be_loaded_leaves_its_share_to_production(make_kernel, shelf, at):
    """On a fresh server production serves everything, and the canary is reported with its own error."""
    shelf.put("sum", 1)
    canary = shelf.put("sum", 2, bias=2)
    tree = shelf.trees.pop(canary.artifact_digest)
    async with make_kernel() as kernel:
        state = shelf.desire(at("sum", routes=CANARY, generation=3))
        await kernel.apply(state, shelf.fetch)
        line = line_of(kernel)
        assert (line.version_serving, line.generation_serving, line.failed_version) == (1, 0, 2)
        assert "No artefact" in line.error
        assert kernel.readiness().ready
        assert await answered(kernel) == {1}
        shelf.trees[canary.artifact_digest] = tree
        await kernel.apply(state, shelf.fetch)
        assert (line_of(kernel).generation_serving, line_of(kernel).error) == (3, None)
        assert await answered(kernel) == {1, 2}


async def test_production_serves_while_the_canary_loads(make_kernel, shelf, at):
    """A fresh server does not wait for a slow canary."""
    shelf.put("sum", 1)
    canary, gate = shelf.put("sum", 2, bias=2), threading.Event()

    def fetch(digest):
        assert digest != canary.artifact_digest or gate.wait(30)
        return shelf.fetch(digest)

    async with make_kernel() as kernel:
        task = asyncio.create_task(kernel.apply(shelf.desire(at("sum", routes=CANARY)), fetch))
        await until_async(lambda: kernel.models() != ())
        assert await answered(kernel) == {1}
        assert (line_of(kernel).version_serving, line_of(kernel).generation_serving) == (1, 0)
        gate.set()
        await task
        assert await answered(kernel) == {1, 2}
        assert line_of(kernel).generation_serving == 1


async def test_a_promotion_that_cannot_be_loaded_leaves_the_former_version_serving(make_kernel, shelf, at):
    """The production version is vital: without it, the deployment before serves on, its canary included."""
    for number in (1, 2):
        shelf.put("sum", number, bias=number)
    broken = shelf.put("sum", 3, kind="broken")
    async with make_kernel() as kernel:
        await kernel.apply(shelf.desire(at("sum", routes=CANARY)), shelf.fetch)
        await kernel.apply(shelf.desire(at("sum", 3, generation=2)), shelf.fetch)
        line = line_of(kernel)
        assert (line.failed_version, line.generation_serving) == (broken.number, 1)
        assert await answered(kernel) == {1, 2}


@pytest.mark.parametrize(("environments", "serving"), [("build", 2), ("fixed", 1)])
async def test_where_environments_are_fixed_another_lock_needs_another_image(
    make_kernel, shelf, at, environments, serving
):
    """The packages of another lock need a server that makes environments; code alone needs nothing."""
    for number in (1, 2):
        served = shelf.put("sum", number, bias=number)
        lock, code = Digest(f"sha256:{number:064x}"), Digest(f"sha256:{number + 8:064x}")
        own = replace(served, carries_code=True, locked=True, lock_digest=lock, code_digest=code)
        shelf.served["sum", number] = own
    served = shelf.put("sum", 3, bias=3)
    shelf.served["sum", 3] = replace(served, carries_code=True, lock_digest=lock, git_commit="1a2b3c")
    identity = ServerIdentity(image=ImageIdentity(lock=f"sha256:{1:064x}"))
    async with make_kernel(ServingPolicy(environments=environments), identity=identity) as kernel:
        await kernel.apply(shelf.desire(at("sum", 1)), shelf.fetch)
        await kernel.apply(shelf.desire(at("sum", 2, generation=2)), shelf.fetch)
        assert await answered(kernel) == {serving}
        line = line_of(kernel)
        assert (line.error is not None and "serving.environments: fixed" in line.error) == (serving == 1)
        assert not line.version_at_fault
        await kernel.apply(shelf.desire(at("sum", 3, generation=3)), shelf.fetch)
        assert await answered(kernel) == {3}
        answer = await kernel.infer(InferenceCall(model="sum", input=Matrix(rows=[[1.0, 2.0, 3.0]]), door="rest"))
        assert answer.metadata.document["git_commit"] == "1a2b3c", "the commit of the version's code, not of the host's"


async def test_failed_loads_are_counted_and_attempts_at_once_count_as_one(make_kernel, shelf, at):
    """A failure that repeats after a pause is counted; success or another generation begins at 1 again."""
    shelf.put("sum", 1, kind="broken")
    seconds = count(step=60)
    async with make_kernel(steady=lambda: next(seconds)) as kernel:
        for expected in (1, 2, 3):
            await kernel.apply(shelf.desire(at("sum")), shelf.fetch)
            assert line_of(kernel).failed_loads == expected
        await kernel.apply(shelf.desire(at("sum", generation=2)), shelf.fetch)
        assert line_of(kernel).failed_loads == 1
    async with make_kernel(steady=lambda: 7.0) as kernel:
        for _ in range(3):
            await kernel.apply(shelf.desire(at("sum")), shelf.fetch)
        assert line_of(kernel).failed_loads == 1


async def test_an_unloaded_model_says_so(make_kernel, shelf, at):
    """An unload is neither a failure nor a generation that serves; a load ends it."""
    shelf.put("sum", 1)
    async with make_kernel() as kernel:
        await kernel.apply(shelf.desire(at("sum")), shelf.fetch)
        await kernel.unload(ModelName("sum"))
        line = line_of(kernel)
        assert (line.unloaded, line.generation_serving, line.version_serving, line.error) == (True, 0, None, None)
        assert not (await kernel.load(ModelName("sum"))).unloaded
        assert line_of(kernel).generation_serving == 1


async def test_a_call_that_never_reached_the_model_is_no_fault_of_it(make_kernel, shelf, at):
    """Requests whose deadline passes while they wait for a shared model open no circuit breaker."""
    shelf.put("sum", 1)
    waiting = threading.Event()

    class Shared(ThreadBackend):
        def predict(self, frame, deadline):
            if waiting.is_set():
                raise DeadlineExceeded("The deadline passed before the model answered.")
            return super().predict(frame, deadline)

    def load(directory, *, digest, project):
        return Shared(load_predictor(directory, digest=digest, project=project))

    async with make_kernel(load_backend=load) as kernel:
        await kernel.apply(shelf.desire(at("sum")), shelf.fetch)
        waiting.set()
        for _ in range(30):
            with pytest.raises(DeadlineExceeded):
                await answered(kernel, 1)
        waiting.clear()
        assert await answered(kernel) == {1}
