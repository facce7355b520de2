"""Memory for loads: counted while versions load, serve and drain; idle models make room, and models in use never do."""

from __future__ import annotations

import asyncio
import gc
import threading
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.adapters.threads import load_in_thread
from mendel.errors import ArtifactNotFound, NotReady
from mendel.serving import InferenceCall, Records, ServingPolicy
from mendel.serving.memory_budget import Evict, MemoryBudget, Resident, make_room
from mendel.serving.process_memory import resident_bytes
from mendel.values import ModelName
from support.waiting import until_async

MB = 1 << 20
SIZE = 40 * MB
"""The memory of each model, far above what a process grows by chance."""
UNUSED_FOR = timedelta(minutes=1)


@dataclass
class Clock:
    """The seconds of the monotonic clock, which tests turn."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Ballast:
    """Loads models that take *size* bytes, and counts those that are loaded."""

    size: int = SIZE
    meeting: threading.Barrier | None = None
    """Where two loads wait for each other, before and after they take their memory."""
    held: dict[int, bytearray] = field(default_factory=dict)
    loads: int = 0

    def __call__(self, directory, *, digest, project):
        self.loads += 1
        backend = load_in_thread(directory, digest=digest, project=project)
        key, kill = id(backend), backend.kill
        meet = (lambda: None) if self.meeting is None else self.meeting.wait
        meet()
        self.held[key] = bytearray(b"x") * self.size
        meet()

        def killed() -> None:
            self.held.pop(key, None)
            kill()

        backend.kill = killed
        return backend


@pytest.fixture
def ballast():
    return Ballast()


@pytest.fixture
def beside(ballast, monkeypatch):
    """The ballast, when two loads run at the same time."""
    monkeypatch.setattr("mendel.serving.artifact_loads._SLOW_S", 0.0)
    ballast.meeting = threading.Barrier(2, timeout=30)
    return ballast


@pytest.fixture
def steady():
    return Clock()


@pytest.fixture
def open_kernel(make_kernel, shelf, ballast, steady):
    """A kernel whose budget has room for *models* models and a half."""
    for model in ("sum", "zero", "failing"):
        shelf.put(model, 1)
    shelf.put("sum", 2, bias=1.0)

    def open_(models: int, **policy):
        budget = models * SIZE + SIZE // 2
        rules = ServingPolicy(memory_budget_bytes=budget, evict_unused_for=UNUSED_FOR, **policy)
        return make_kernel(rules, load_backend=ballast, steady=steady)

    return open_


async def ask(kernel, model):
    return await kernel.infer(
        InferenceCall(model=model, input=Records(rows=[{"a": 1.0, "b": 2.0, "c": 3.0}]), door="rest")
    )


async def refusal(kernel, model):
    with pytest.raises(NotReady) as refused:
        await ask(kernel, model)
    return refused.value


def lines_of(kernel):
    return {line.model: line for line in kernel.convergence}


def serving(kernel):
    return {line.model for line in kernel.convergence if line.version_serving is not None}


async def test_the_least_recently_used_idle_model_makes_room(open_kernel, shelf, at, ballast, steady):
    """Its memory comes back; the server stays ready, and the model says why it is not."""
    async with open_kernel(2) as kernel:
        await kernel.apply(shelf.desire(at("sum"), at("zero")), shelf.fetch)
        steady.now = 50
        await ask(kernel, "zero")
        steady.now = 115  # 115 s after the last request of sum, 65 s after that of zero
        gc.collect()
        before = resident_bytes()
        assert before is not None
        await kernel.apply(shelf.desire(at("sum"), at("zero"), at("failing")), shelf.fetch)
        assert serving(kernel) == {"zero", "failing"}
        assert len(ballast.held) == 2
        assert resident_bytes() - before < SIZE // 2
        assert kernel.readiness().ready
        (status,) = (model for model in kernel.status().models if model.model == "sum")
        assert (status.ready, status.unloaded, "memory_budget_bytes" in status.error) == (False, True, True)
        line = lines_of(kernel)["sum"]
        assert (line.unloaded, line.error) == (True, None)
        with pytest.raises(NotReady):
            kernel.served("sum")


async def test_an_evicted_model_is_loaded_again_when_asked(open_kernel, shelf, at, steady):
    """The request gets NotReady with a time, and starts the load; later requests are answered."""
    async with open_kernel(1) as kernel:
        await kernel.apply(shelf.desire(at("sum")), shelf.fetch)
        steady.now = 61
        await kernel.apply(shelf.desire(at("sum"), at("zero")), shelf.fetch)
        assert serving(kernel) == {"zero"}
        steady.now = 122
        assert (await refusal(kernel, "sum")).retry_after == timedelta(seconds=1)
        await until_async(lambda: serving(kernel) == {"sum"})
        assert (await ask(kernel, "sum")).predictions == [6.0]
        assert lines_of(kernel)["sum"].unloaded is False
        assert lines_of(kernel)["zero"].unloaded is True


async def test_a_question_about_an_evicted_model_loads_it_again(open_kernel, shelf, at, steady):
    """Whoever asks for its signature or whether it is ready before they send rows would otherwise never send any."""
    async with open_kernel(1) as kernel:
        await kernel.apply(shelf.desire(at("sum")), shelf.fetch)
        steady.now = 61
        await kernel.apply(shelf.desire(at("sum"), at("zero")), shelf.fetch)
        steady.now = 122
        with pytest.raises(NotReady):
            kernel.served("sum")
        await until_async(lambda: serving(kernel) == {"sum"})
        assert kernel.served("sum").served.number == 1


async def test_an_evicted_model_that_fails_to_load_again_says_why_and_is_tried_again(open_kernel, shelf, at, steady):
    """The reason is not the memory, and the next attempt with the same deployments loads the model."""
    missing = set()

    def fetch(digest):
        if digest in missing:
            raise ArtifactNotFound("The store is away.")
        return shelf.fetch(digest)

    async with open_kernel(1) as kernel:
        await kernel.apply(shelf.desire(at("sum")), fetch)
        steady.now = 61
        both = shelf.desire(at("sum"), at("zero"))
        await kernel.apply(both, fetch)
        assert serving(kernel) == {"zero"}
        steady.now = 122
        missing.add(shelf.served["sum", 1].artifact_digest)
        await refusal(kernel, "sum")
        await until_async(lambda: lines_of(kernel)["sum"].error is not None)
        assert "The store is away." in str(await refusal(kernel, "sum"))
        assert "The store is away." in next(one.error for one in kernel.status().models if one.model == "sum")
        missing.clear()
        await kernel.apply(both, fetch)
        assert serving(kernel) == {"sum"}


async def test_a_new_generation_of_an_evicted_model_is_not_yet_unloaded(open_kernel, shelf, at, steady):
    """It loads; a worker that reported it as unloaded would settle on a version that no worker has loaded."""
    async with open_kernel(1) as kernel:
        await kernel.apply(shelf.desire(at("sum")), shelf.fetch)
        steady.now = 61
        await kernel.apply(shelf.desire(at("sum"), at("zero")), shelf.fetch)
        assert lines_of(kernel)["sum"].unloaded
        told = []

        def fetch(digest):
            told.append(lines_of(kernel)["sum"])
            return shelf.fetch(digest)

        await kernel.apply(shelf.desire(at("sum", 2, generation=2), at("zero")), fetch)
        assert [(line.generation_desired, line.unloaded) for line in told] == [(2, False)]
        assert lines_of(kernel)["sum"].unloaded


async def test_a_load_waits_for_the_memory_of_a_model_that_drains(make_kernel, shelf, at, ballast, steady):
    """A model that replaces another one in the same state is loaded when the other one has ended."""
    shelf.put("held", 1)
    shelf.put("zero", 1)
    policy = ServingPolicy(memory_budget_bytes=SIZE + SIZE // 2, evict_unused_for=UNUSED_FOR)
    async with make_kernel(policy, load_backend=ballast, steady=steady) as kernel:
        await kernel.apply(shelf.desire(at("held")), shelf.fetch)
        asked = asyncio.create_task(ask(kernel, "held"))
        await until_async(lambda: kernel.status().active)
        applied = asyncio.create_task(kernel.apply(shelf.desire(at("zero")), shelf.fetch))
        await until_async(lambda: ballast.loads == 2)
        assert not applied.done()
        shelf.let_go()
        await applied
        assert (serving(kernel), (await asked).predictions) == ({"zero"}, [6.0])


async def test_waiting_for_a_model_that_drains_is_not_a_fault_of_the_version(make_kernel, shelf, at, ballast):
    """When requests take longer than the time for a load, there is no room; the load has not failed."""
    shelf.put("held", 1)
    shelf.put("zero", 1)
    policy = ServingPolicy(memory_budget_bytes=SIZE + SIZE // 2, load_timeout=timedelta(seconds=2))
    async with make_kernel(policy, load_backend=ballast) as kernel:
        await kernel.apply(shelf.desire(at("held")), shelf.fetch)
        asked = asyncio.create_task(ask(kernel, "held"))
        await until_async(lambda: kernel.status().active)
        (line,) = await kernel.apply(shelf.desire(at("zero")), shelf.fetch)
        assert (line.unloaded, line.error, line.version_at_fault) == (True, None, False)
        shelf.let_go()
        assert (await asked).predictions == [6.0]


async def test_a_promotion_needs_no_room_for_a_version_that_it_no_longer_keeps(open_kernel, shelf, at, steady):
    """Within the bake, the version before the last one ends before the next one loads, and the running one stays."""
    shelf.put("sum", 3, bias=2.0)
    async with open_kernel(2) as kernel:
        await kernel.apply(shelf.desire(at("sum")), shelf.fetch)
        await kernel.apply(shelf.desire(at("sum", 2, generation=2, keep=(1,))), shelf.fetch)
        await kernel.apply(shelf.desire(at("sum", 3, generation=3, keep=(2,))), shelf.fetch)
        line = lines_of(kernel)["sum"]
        assert (line.version_serving, line.generation_serving, line.error) == (3, 3, None)
        assert {version.version for model in kernel.status().models for version in model.versions} == {2, 3}


async def test_a_measurement_beyond_the_budget_does_not_refuse_a_model_for_good(
    open_kernel, shelf, at, ballast, steady
):
    """The growth of the process contains imports and other memory, so a later load measures again."""
    ballast.size = 2 * SIZE
    async with open_kernel(1) as kernel:
        await kernel.apply(shelf.desire(at("sum")), shelf.fetch)
        assert (serving(kernel), lines_of(kernel)["sum"].unloaded) == (set(), True)
        ballast.size = SIZE
        steady.now = 61
        await refusal(kernel, "sum")
        await until_async(lambda: serving(kernel) == {"sum"})


async def test_a_measurement_beside_another_load_does_not_count_later(open_kernel, shelf, at, beside, steady):
    """The growth of the process then contains both models; measured alone, both fit."""
    async with open_kernel(2) as kernel:
        await kernel.apply(shelf.desire(at("sum"), at("zero")), shelf.fetch)
        beside.meeting = None
        (first,) = serving(kernel)
        (second,) = {"sum", "zero"} - {first}
        steady.now = 61
        await refusal(kernel, second)
        await until_async(lambda: serving(kernel) == {second})
        steady.now = 122
        await refusal(kernel, first)
        await until_async(lambda: serving(kernel) == {"sum", "zero"})


async def test_two_models_that_need_the_whole_budget_do_not_take_turns(open_kernel, shelf, at, ballast, steady):
    """While one is used, requests for the other get the time when it may be unloaded, and load nothing again."""
    async with open_kernel(1) as kernel:
        await kernel.apply(shelf.desire(at("sum"), at("zero")), shelf.fetch)
        assert (serving(kernel), ballast.loads) == ({"sum"}, 2)
        assert kernel.readiness().ready
        for _ in range(20):
            steady.now += 10
            await ask(kernel, "sum")
            assert (await refusal(kernel, "zero")).retry_after > timedelta(0)
            await asyncio.sleep(0)
        await kernel.apply(shelf.desire(at("sum"), at("zero")), shelf.fetch)
        assert (serving(kernel), ballast.loads) == ({"sum"}, 2)
        assert (await kernel.load(ModelName("zero"))).error is not None
        steady.now += 61
        await refusal(kernel, "zero")
        await until_async(lambda: serving(kernel) == {"zero"})


async def test_a_busy_model_is_not_unloaded(make_kernel, shelf, at, ballast, steady):
    """However long ago its last request came, a model that still answers it keeps its memory."""
    shelf.put("held", 1)
    shelf.put("zero", 1)
    policy = ServingPolicy(memory_budget_bytes=SIZE + SIZE // 2, evict_unused_for=timedelta(seconds=1))
    async with make_kernel(policy, load_backend=ballast, steady=steady) as kernel:
        await kernel.apply(shelf.desire(at("held")), shelf.fetch)
        asked = asyncio.create_task(ask(kernel, "held"))
        await until_async(lambda: kernel.status().active)
        steady.now = 5
        await kernel.apply(shelf.desire(at("held"), at("zero")), shelf.fetch)
        assert serving(kernel) == {"held"}
        shelf.let_go()
        assert (await asked).predictions == [6.0]


async def test_the_second_version_of_a_change_counts(open_kernel, shelf, at, steady):
    """A new version that does not fit beside the running one is not loaded, and the running one keeps serving."""
    async with open_kernel(1) as kernel:
        await kernel.apply(shelf.desire(at("sum")), shelf.fetch)
        steady.now = 1_000
        await kernel.apply(shelf.desire(at("sum", 2, generation=2)), shelf.fetch)
        line = lines_of(kernel)["sum"]
        assert (line.version_serving, line.version_at_fault) == (1, False)
        assert "memory_budget_bytes" in line.error
        assert (await ask(kernel, "sum")).metadata.version == 1
    async with open_kernel(2) as kernel:
        await kernel.apply(shelf.desire(at("sum"), at("zero")), shelf.fetch)
        steady.now = 2_000
        await kernel.apply(shelf.desire(at("sum", 2, generation=2), at("zero")), shelf.fetch)
        assert lines_of(kernel)["sum"].version_serving == 2
        assert lines_of(kernel)["zero"].unloaded


async def test_a_version_larger_than_the_budget_is_refused_before_loading(open_kernel, shelf, at, ballast):
    """By the size of its files, with both numbers; the model is not ready, and other models load."""
    (shelf.directory / "sum-1" / "weights").write_bytes(bytes(2 * SIZE))
    async with open_kernel(1) as kernel:
        await kernel.apply(shelf.desire(at("sum")), shelf.fetch)
        line = lines_of(kernel)["sum"]
        assert (line.version_at_fault, str(SIZE + SIZE // 2) in line.error) == (False, True)
        assert (line.unloaded, ballast.loads) == (False, 0)


RESIDENTS = st.lists(
    st.builds(
        Resident,
        model=st.integers(0, 10**6).map(lambda number: ModelName(f"m{number}")),
        size_bytes=st.integers(0, 100),
        unused=st.none() | st.timedeltas(timedelta(0), timedelta(minutes=3)),
    ),
    unique_by=lambda one: one.model,
    max_size=8,
)


@given(st.integers(1, 300), RESIDENTS)
def test_only_unused_models_make_room_and_only_if_it_is_enough(missing, residents):
    """What is chosen frees enough, was unused for long, and nothing that stays was unused for longer."""
    decision = make_room(missing, residents, unused_for=UNUSED_FOR)
    free = [one for one in residents if one.unused is not None and one.unused >= UNUSED_FOR]
    if not isinstance(decision, Evict):
        assert sum(one.size_bytes for one in free) < missing
        assert decision.retry_after > timedelta(0)
        return
    chosen = [one for one in free if one.model in decision.models]
    assert len(chosen) == len(decision.models)
    assert sum(one.size_bytes for one in chosen) >= missing
    stay = [one.unused for one in free if one not in chosen]
    assert max(stay, default=timedelta(0)) <= min(one.unused for one in chosen)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60), st.booleans()), max_size=30))
def test_the_sum_of_claims_is_the_used_memory(steps):
    """A claim beyond the limit changes nothing, and what is released is there again."""
    budget, claims = MemoryBudget(100), []
    for size, measured, release in steps:
        claim = budget.claim(size)
        if isinstance(claim, int):
            assert claim == sum(one.size_bytes for one in claims) + size - 100
        else:
            claim.resize(measured)
            claims.append(claim)
        if release and claims:
            claims.pop().release()
        assert budget.used_bytes == sum(one.size_bytes for one in claims)
