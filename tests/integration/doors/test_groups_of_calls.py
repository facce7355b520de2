"""Calls that arrive together, as the fast doors hand them to the kernel."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

from mendel.errors import DeadlineExceeded, InvalidRequest, ModelFailed, ModelNotFound, Unsupported
from mendel.serving import InferenceAnswer, InferenceCall, Matrix, ServingPolicy
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
    policy = ServingPolicy()
    policy = type(policy)(bulkhead=type(policy.bulkhead)(max_queue=4))
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
