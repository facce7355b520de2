"""Calls that arrive together, as the fast doors hand them to the kernel."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from mendel.app.server.child_process import collect_rarely
from mendel.errors import DeadlineExceeded, InvalidRequest, ModelFailed, ModelNotFound, Overloaded, Unsupported
from mendel.resilience import BulkheadPolicy
from mendel.serving import InferenceAnswer, InferenceCall, Matrix, ServingPolicy, Tensor, Tensors
from mendel.serving.metrics import ROWS, SHED
from mendel.values import Route
from support.served_models import NAMES
from support.waiting import until_async


class Mark:
    """A caller who may go."""

    def __init__(self) -> None:
        self.gone = False


class Answers:
    """Remembers what was given back, by the mark of the call."""

    def __init__(self) -> None:
        self.groups: list[int] = []
        self.found: dict[object, object] = {}

    def __call__(self, answered) -> None:
        self.groups.append(len(answered))
        for call, result in answered:
            assert call.caller not in self.found, "given back twice"
            self.found[call.caller] = result


def call_for(row, *, model="sum", mark=None, **given) -> InferenceCall:
    rows = Matrix(rows=[row], columns=NAMES)
    return InferenceCall(model=model, input=rows, door="rest", caller=mark or Mark(), **given)


async def test_each_call_of_a_group_gets_its_own_answer_or_error(make_kernel, shelf, at):
    """One group with right, wrong, unknown and failing calls: each is given back once, and as if it had come alone."""
    for model in ("sum", "failing"):
        shelf.put(model, 1)
    rng = random.Random(1)
    async with make_kernel() as kernel:
        await kernel.apply(shelf.desire(at("sum"), at("failing")), shelf.fetch)
        wrong = {
            InvalidRequest: call_for([1.0, None, 2.0]),
            ModelNotFound: call_for([1.0, 2.0, 3.0], model="absent"),
            ModelFailed: call_for([-1.0, 2.0, 3.0], model="failing"),
            Unsupported: call_for([1.0, 2.0, 3.0], proba=True),
            DeadlineExceeded: call_for([1.0, 2.0, 3.0], timeout=timedelta(0)),
        }
        right = [call_for([float(place), 1.0, 2.0], model=rng.choice(["sum", "failing"])) for place in range(200)]
        calls = [*wrong.values(), *right]
        rng.shuffle(calls)
        answers = Answers()
        kernel.submit_many(calls, answers)
        assert not answers.found, "given back before submit_many had returned"
        await until_async(lambda: len(answers.found) == len(calls))
        for kind, call in wrong.items():
            assert isinstance(answers.found[call.caller], kind)
        for place, call in enumerate(right):
            answer = answers.found[call.caller]
            assert isinstance(answer, InferenceAnswer)
            assert answer.predictions == [place + 3.0]
        assert len(answers.groups) < 20, "the calls of one model were not predicted together"


async def test_a_call_whose_caller_has_gone_is_not_predicted(make_kernel, shelf, at):
    """A queued call whose caller leaves is given back without an answer, and the model never sees its row."""
    shelf.put("held", 1)
    async with make_kernel() as kernel:
        await kernel.apply(shelf.desire(at("held")), shelf.fetch)
        answers = Answers()
        first, leaving, staying = (call_for([number, 0.0, 0.0], model="held") for number in (1.0, 2.0, 3.0))
        kernel.submit_many([first], answers)
        lane = kernel.served("held").lane
        await until_async(lambda: lane.running == 1)
        kernel.submit_many([leaving, staying], answers)
        leaving.caller.gone = True
        shelf.let_go()
        await until_async(lambda: len(answers.found) == 3)
        assert isinstance(answers.found[leaving.caller], DeadlineExceeded)
        assert answers.found[staying.caller].predictions == [3.0]


async def test_a_door_that_fails_takes_no_other_door_along(make_kernel, shelf, at):
    """Two doors share a batch; the callback of the first raises, and the second still gets its answers."""
    shelf.put("sum", 1)
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context["exception"]))
    async with make_kernel() as kernel:
        await kernel.apply(shelf.desire(at("sum")), shelf.fetch)

        def broken(_) -> None:
            raise LookupError("a defect of a door")

        answers = Answers()
        kernel.submit_many([call_for([1.0, 2.0, 3.0])], broken)
        kernel.submit_many([call_for([4.0, 5.0, 6.0])], answers)
        await until_async(lambda: answers.found and faults)
        assert [answer.predictions for answer in answers.found.values()] == [[15.0]]
        assert [type(fault) for fault in faults] == [LookupError]
        kernel.submit_many([call_for([1.0, 1.0, 1.0])], answers)
        await until_async(lambda: len(answers.found) == 2)


async def test_a_group_over_the_bulkhead_is_admitted_up_to_its_width(make_kernel, shelf, at):
    """Of 10 calls in one group, a queue of 4 takes 4; the others are refused with a time, and none is lost."""
    shelf.put("held", 1)
    policy = ServingPolicy(bulkhead=BulkheadPolicy(max_queue=4))
    async with make_kernel(policy) as kernel:
        await kernel.apply(shelf.desire(at("held")), shelf.fetch)
        answers = Answers()
        calls = [call_for([float(place), 0.0, 0.0], model="held") for place in range(10)]
        kernel.submit_many(calls, answers)
        await until_async(lambda: len(answers.found) == 6)
        assert all(error.retry_after > timedelta(0) for error in answers.found.values())
        shelf.let_go()
        await until_async(lambda: len(answers.found) == 10)
        assert [answers.found[call.caller].predictions for call in calls[:4]] == [[0.0], [1.0], [2.0], [3.0]]


async def test_the_queue_of_a_model_is_shared_by_its_versions(make_kernel, shelf, at):
    """A group over both versions of a canary is admitted up to the queue of the model, not of each version."""
    for number in (1, 2):
        shelf.put("held", number)
    routes = (Route(version=1, share=0.5), Route(version=2, share=0.5))
    policy = ServingPolicy(bulkhead=BulkheadPolicy(max_queue=4))
    async with make_kernel(policy) as kernel:
        await kernel.apply(shelf.desire(at("held", routes=routes)), shelf.fetch)
        answers = Answers()
        kernel.submit_many([call_for([1.0, 0.0, 0.0], model="held") for _ in range(40)], answers)
        await until_async(lambda: len(answers.found) == 36)
        shelf.let_go()
        await until_async(lambda: len(answers.found) == 40)


async def test_a_group_that_would_wait_too_long_is_refused_in_part(make_kernel, shelf, at):
    """The calls of one group count for each other: those that would be answered after their deadline get a time."""
    shelf.put("sum", 1)
    async with make_kernel(ServingPolicy(max_batch_rows=1)) as kernel:
        await kernel.apply(shelf.desire(at("sum")), shelf.fetch)
        kernel.served("sum").lane.batch_seconds = 0.5
        answers = Answers()
        calls = [call_for([1.0, 2.0, 3.0], timeout=timedelta(seconds=5)) for _ in range(30)]
        kernel.submit_many(calls, answers)
        await until_async(lambda: len(answers.found) == 30)
        refused = [error for error in answers.found.values() if isinstance(error, Overloaded)]
        assert len(refused) == 22
        assert {round(error.retry_after / timedelta(seconds=1), 3) for error in refused} == {5.5}


async def test_a_shadow_gets_the_first_calls_of_a_large_group(make_kernel, shelf, at, spool):
    """Of 100 calls in one group, the shadow sees as many as its queue holds, and the rest counts as shed."""
    shelf.put("sum", 1)
    shelf.put("sum", 2, bias=1.0)
    policy = ServingPolicy(max_shadow_queue=10)
    async with make_kernel(policy, sink=spool) as kernel:
        await kernel.apply(shelf.desire(at("sum", shadow=2)), shelf.fetch)
        answers = Answers()
        kernel.submit_many([call_for([1.0, 2.0, 3.0]) for _ in range(100)], answers)
        await until_async(lambda: len(answers.found) == 100)
        shadow = kernel.models()[0].versions[2]
        await until_async(lambda: shadow.idle)
        counted = {
            line.name: cells[0]
            for line, cells in kernel.counters.totals().items()
            if line.name in {SHED.name, ROWS.name} and ("version", "2") in line.labels
        }
        assert counted == {SHED.name: 90, ROWS.name: 10}


async def test_a_defect_while_answers_are_built_answers_every_call(make_kernel, shelf, at):
    """If the clock fails after the prediction, each call of the batch is given back with that error."""
    shelf.put("sum", 1)
    broken = False

    def clock() -> datetime:
        if broken:
            raise LookupError("no time")
        return datetime.now(UTC)

    async with make_kernel(clock=clock) as kernel:
        await kernel.apply(shelf.desire(at("sum")), shelf.fetch)
        broken = True
        answers = Answers()
        kernel.submit_many([call_for([1.0, 2.0, 3.0]) for _ in range(5)], answers)
        await until_async(lambda: len(answers.found) == 5)
        assert {type(error) for error in answers.found.values()} == {LookupError}
        broken = False
        assert kernel.status().active == 0


async def test_refused_calls_are_freed_without_garbage_collection(make_kernel, shelf, at):
    """What a refused call sent is free as soon as the door has answered, however large it is."""
    shelf.put("sum", 1)
    async with make_kernel() as kernel:
        await kernel.apply(shelf.desire(at("sum")), shelf.fetch)
        seen: list[weakref.ref] = []
        gc.disable()
        try:
            for send in (kernel.infer, lambda call: kernel.submit_many([call], lambda _: None)):
                rows = np.zeros((1, 7))
                seen.append(weakref.ref(rows))
                tensor = Tensor(name="x", datatype="FP64", shape=(1, 7), values=rows)
                call = InferenceCall(model="sum", input=Tensors(tensors=(tensor,)), door="rest")
                del rows, tensor
                sent = send(call)
                del call
                if sent is not None:
                    with pytest.raises(InvalidRequest):
                        await sent
                del sent
            await until_async(lambda: all(ref() is None for ref in seen))
        finally:
            gc.enable()


async def test_a_replaced_version_is_freed_after_the_collector_was_told_to_rest(make_kernel, shelf, at):
    """A model that was loaded before the objects were frozen is free once its version is no longer served."""
    shelf.put("sum", 1)
    shelf.put("sum", 2)
    async with make_kernel() as kernel:
        await kernel.apply(shelf.desire(at("sum", 1)), shelf.fetch)
        model = weakref.ref(kernel.served("sum").artifact.backend.predictor.model)
        thresholds = gc.get_threshold()
        try:
            collect_rarely()
            await kernel.apply(shelf.desire(at("sum", 2, generation=2)), shelf.fetch)
            await until_async(lambda: model() is None)
        finally:
            gc.set_threshold(*thresholds)
            gc.unfreeze()
