"""Loads of artefacts: announced before they begin, alone or refused when told so, and bounded in running time."""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from itertools import count

import pytest

from mendel.errors import ModelNotLoadable
from mendel.serving import LoadKey, RefusedLoad, ServingPolicy
from mendel.values import ModelName
from support.waiting import until_async


def key_of(model, served):
    return LoadKey(model=ModelName(model), version=served.number, digest=served.artifact_digest)


def lines_of(kernel):
    return {line.model: line for line in kernel.convergence}


async def test_a_load_is_announced_before_it_begins_and_after_it_has_ended(make_kernel, shelf, at):
    """Whoever hears the announcements knows what was loading when the process died."""
    served, told, seen = shelf.put("sum", 1), [], []

    def fetch(digest):
        seen.append(told[-1])
        return shelf.fetch(digest)

    async with make_kernel(announce=told.append) as kernel:
        await kernel.apply(shelf.desire(at("sum")), fetch)
    assert seen == [{key_of("sum", served)}]
    assert told[-1] == frozenset()


@pytest.mark.parametrize("at_fault", [False, True])
async def test_a_refused_load_fails_without_being_tried(make_kernel, shelf, at, at_fault):
    """The version is reported with the reason of the refusal, and other models load."""
    refused, _ = shelf.put("sum", 1), shelf.put("proba", 1)
    fetched = []
    async with make_kernel() as kernel:
        reason = RefusedLoad(load=key_of("sum", refused), reason="it kills", at_fault=at_fault)
        kernel.restrict_loads(trials=(), refused=(reason,))
        state = shelf.desire(at("sum"), at("proba"))
        await kernel.apply(state, lambda digest: fetched.append(digest) or shelf.fetch(digest))
        line = lines_of(kernel)["sum"]
        assert (line.failed_version, line.error, line.version_at_fault) == (1, "it kills", at_fault)
        assert lines_of(kernel)["proba"].version_serving == 1
        assert refused.artifact_digest not in fetched
        kernel.restrict_loads(trials=(), refused=())
        await kernel.apply(state, shelf.fetch)
        assert lines_of(kernel)["sum"].version_serving == 1


async def test_a_trial_runs_while_no_other_load_runs(make_kernel, shelf, at):
    """A load that may end the process waits also for a slow load, beside which other loads run."""
    trial, slow, other, running = shelf.put("sum", 1), shelf.put("proba", 1), shelf.put("zero", 1), []
    gate = threading.Event()

    def fetch(digest):
        if digest == slow.artifact_digest:
            assert gate.wait(30)
        return shelf.fetch(digest)

    alone, beside = {key_of("sum", trial)}, {key_of("proba", slow), key_of("zero", other)}
    async with make_kernel(announce=running.append) as kernel:
        first = asyncio.create_task(kernel.apply(shelf.desire(at("proba"), at("zero")), fetch))
        await until_async(lambda: beside in running and running[-1] == {key_of("proba", slow)})
        kernel.restrict_loads(trials=alone, refused=())
        second = asyncio.create_task(kernel.apply(shelf.desire(at("proba"), at("zero"), at("sum")), fetch))
        for _ in range(100):  # turns of the loop, in which a load that does not wait would begin
            await asyncio.sleep(0)
        assert not any(alone < set(loads) for loads in running)
        gate.set()
        await asyncio.gather(first, second)
        assert alone in running
        assert not any(alone < set(loads) for loads in running)


async def test_a_trial_comes_before_everything_else(make_kernel, shelf, at):
    """A process that tries a load first has loaded and serves nothing then; the load's result is used afterwards."""
    trial, other, fetched, served = shelf.put("sum", 1), shelf.put("proba", 1), [], []

    async with make_kernel() as kernel:
        state = shelf.desire(at("proba"), at("sum"))
        kernel.restrict_loads(trials=(key_of("sum", trial),), refused=())

        def fetch(digest):
            fetched.append(digest)
            served.append([line.version_serving for line in kernel.convergence])
            return shelf.fetch(digest)

        await kernel.try_first(state, fetch)
        assert (fetched, served) == ([trial.artifact_digest], [[]])
        await kernel.apply(state, fetch)
        assert fetched == [trial.artifact_digest, other.artifact_digest]
        assert {line.version_serving for line in kernel.convergence} == {1}


async def test_a_refused_or_failing_trial_ends_quietly(make_kernel, shelf, at):
    """Its error is told when the state is applied."""
    trial = shelf.put("sum", 1)

    def fetch(digest):
        raise ModelNotLoadable("it is damaged")

    async with make_kernel() as kernel:
        state, key = shelf.desire(at("sum")), key_of("sum", trial)
        kernel.restrict_loads(trials=(key,), refused=(RefusedLoad(load=key, reason="it kills"),))
        await kernel.try_first(state, shelf.fetch)
        kernel.restrict_loads(trials=(key,), refused=())
        await kernel.try_first(state, fetch)
        assert kernel.convergence == ()
        await kernel.apply(state, fetch)
        assert lines_of(kernel)["sum"].error == "it is damaged"


async def test_time_in_which_the_process_was_suspended_is_no_load_time(make_kernel, shelf, at):
    """A process that stands still for an hour between any two looks at a load has spent seconds on the load."""
    shelf.put("sum", 1)
    gate, hours, looks = threading.Event(), count(step=3600), []

    def fetch(digest):
        assert gate.wait(30)
        return shelf.fetch(digest)

    policy = ServingPolicy(load_timeout=timedelta(seconds=100))
    async with make_kernel(policy, steady=lambda: looks.append(1) or next(hours)) as kernel:
        task = asyncio.create_task(kernel.apply(shelf.desire(at("sum")), fetch))
        await until_async(lambda: len(looks) > 5)
        gate.set()
        await task
        assert lines_of(kernel)["sum"].error is None
