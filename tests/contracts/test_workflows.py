"""The contract of Workflows, over memory and DBOS; killing is an exception that is no Exception."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from mendel.adapters.dbos import DbosWorkflows
from mendel.adapters.memory import MemoryUnitOfWork, MemoryWorkflows
from mendel.adapters.sql import translated
from mendel.durable import Outbox, OutboxRelay, WorkflowCall, WorkflowState
from mendel.errors import DeadlineExceeded, Fenced, PromotionRefused, RunNotFound, StepFailed

SOON = timedelta(seconds=20)


class Killed(BaseException):
    """Ends a run as SIGKILL would: nothing is recorded."""


def call(id_="w1", name="mend", **payload):
    return WorkflowCall(name=name, id=id_, input=payload)


@pytest.fixture(params=["memory", "dbos"])
def workflows(request, tmp_path):
    if request.param == "memory":
        return MemoryWorkflows()
    return DbosWorkflows(
        tmp_path / "workflows.db",
        executor_id="test",
        application_version="1",
        clock=lambda: datetime.now(UTC),
        database_errors=translated,
    )


def test_runs_end_with_their_result(workflows):
    """Many runs at once end with what their function returned, as JSON keeps it."""

    def double(run, payload):
        first = run.step("first", lambda: {"n": payload["n"] * 2, "pair": (1, 2)})
        return {"id": run.id, **first}

    workflows.register("double", double)
    with workflows.open() as opened:
        for number in range(20):
            opened.start(call(f"w{number}", "double", n=number))
        for number in range(20):
            run = opened.wait(f"w{number}", timeout=SOON)
            assert (run.state, run.name) == (WorkflowState.DONE, "double")
            assert run.result == {"id": f"w{number}", "n": number * 2, "pair": [1, 2]}
        assert opened.unfinished() == ()


def test_an_id_starts_once(workflows):
    """Starting an id that exists does nothing: running, done, or under another name."""
    runs = []
    go = threading.Event()

    def count(run, payload):
        runs.append(payload)
        go.wait(10)
        return {}

    workflows.register("count", count)
    workflows.register("other", count)
    with workflows.open() as opened:
        opened.start(call("w1", "count", first=True))
        opened.start(call("w1", "count", first=False))
        assert opened.get("w1").state is WorkflowState.RUNNING
        assert [run.id for run in opened.unfinished()] == ["w1"]
        go.set()
        opened.wait("w1", timeout=SOON)
        opened.start(call("w1", "count"))
        opened.start(call("w1", "other"))
        assert opened.wait("w1", timeout=SOON).name == "count"
    assert runs == [{"first": True}]


def test_unknown_names_and_ids(workflows):
    """An unregistered name is a LookupError, an unknown id None or RunNotFound, and cancelling one is no error."""
    workflows.register("mend", lambda run, payload: {})
    with workflows.open() as opened:
        with pytest.raises(LookupError, match="heal"):
            opened.start(call(name="heal"))
        assert opened.get("nope") is None
        with pytest.raises(RunNotFound):
            opened.wait("nope", timeout=SOON)
        opened.cancel("nope")


def test_registering_late_is_refused(workflows):
    """After opening nothing can be registered, and nothing opened twice or started before."""
    workflows.register("mend", lambda run, payload: {})
    with pytest.raises(RuntimeError):
        workflows.start(call())
    with workflows.open():
        with pytest.raises(RuntimeError):
            workflows.register("late", lambda run, payload: {})
        with pytest.raises(RuntimeError), workflows.open():
            pass


def test_waiting_has_an_end(workflows):
    """Waiting too short a time is DeadlineExceeded, and the run goes on."""
    go = threading.Event()
    workflows.register("mend", lambda run, payload: {"went": go.wait(10)})
    with workflows.open() as opened:
        opened.start(call())
        with pytest.raises(DeadlineExceeded):
            opened.wait("w1", timeout=timedelta(milliseconds=30))
        go.set()
        assert opened.wait("w1", timeout=SOON).result == {"went": True}


def test_an_error_ends_the_run(workflows):
    """A function that raises fails its run, with type and message."""

    def fails(run, payload):
        run.step("look", lambda: {"n": 1})
        raise PromotionRefused("Not now.", reasons=("gates",))

    workflows.register("mend", fails)
    with workflows.open() as opened:
        opened.start(call())
        run = opened.wait("w1", timeout=SOON)
    assert (run.state, run.result, run.error) == (WorkflowState.FAILED, None, "PromotionRefused: Not now.")


def test_a_killed_run_resumes_after_its_last_step(workflows):
    """Steps that ended are remembered, the interrupted one runs again, and the result is the uninterrupted one."""
    acts = []

    def mend(run, payload):
        first = run.step("first", lambda: acts.append("first") or {"n": 1})
        second = run.step("second", lambda: second_act(first))
        return {"n": second["n"]}

    def second_act(first):
        acts.append("second")
        if acts.count("second") < 3:
            raise Killed
        return {"n": first["n"] + 1}

    workflows.register("mend", mend)
    for killed in (1, 2):
        with workflows.open() as opened:
            opened.start(call())
            while acts.count("second") < killed:
                time.sleep(0.01)
            assert opened.get("w1").state is WorkflowState.RUNNING
    with workflows.open() as opened:
        assert opened.wait("w1", timeout=SOON).result == {"n": 2}
    assert acts == ["first", "second", "second", "second"]


def test_a_remembered_error_is_the_same_error(workflows):
    """A workflow that caught an error of a step catches the same one when it is resumed."""
    seen, kills = [], []

    def refuses():
        raise PromotionRefused("Not now.", reasons=("gates", "bias"), remedy="Wait.")

    def stumbles():
        return {"n": 1 // 0}

    def mend(run, payload):
        try:
            run.step("promote", refuses)
        except PromotionRefused as error:
            seen.append((error.message, error.reasons, error.remedy, str(error)))
        try:
            run.step("stumble", stumbles)
        except StepFailed as error:
            seen.append((error.kind, error.message))
        if not kills:
            kills.append(1)
            raise Killed
        return {}

    workflows.register("mend", mend)
    with workflows.open() as opened:
        opened.start(call())
        while not kills:
            time.sleep(0.01)
    with workflows.open() as opened:
        assert opened.wait("w1", timeout=SOON).state is WorkflowState.DONE
    assert seen[0] == ("Not now.", ("gates", "bias"), "Wait.", "Not now. Wait.")
    assert seen[1][0] == "ZeroDivisionError"
    assert "by zero" in seen[1][1]
    assert seen[:2] == seen[2:]


def test_a_fenced_step_leaves_the_run_to_others(workflows):
    """A step whose executor lost its lease is no outcome: the run stays unfinished and is resumed."""
    fenced = []

    def act():
        if not fenced:
            fenced.append(1)
            raise Fenced("The lease was lost.")
        return {"ok": True}

    workflows.register("mend", lambda run, payload: run.step("act", act))
    with workflows.open() as opened:
        opened.start(call())
        while not fenced:
            time.sleep(0.01)
        time.sleep(0.05)
        assert opened.get("w1").state is WorkflowState.RUNNING
    with workflows.open() as opened:
        assert opened.wait("w1", timeout=SOON).result == {"ok": True}


@pytest.mark.race
def test_a_sleep_ends_when_it_was_going_to(workflows):
    """Leaving does not wait for a sleep; resumed, it ends at the time that was fixed first."""
    begun = threading.Event()

    def doze(run, payload):
        begun.set()
        run.sleep("doze", timedelta(seconds=1.2))
        return {}

    workflows.register("doze", doze)
    start = time.monotonic()
    with workflows.open() as opened:
        opened.start(call(name="doze"))
        assert begun.wait(10)
        time.sleep(0.1)
    assert time.monotonic() - start < 1.1
    with workflows.open() as opened:
        assert opened.wait("w1", timeout=SOON).state is WorkflowState.DONE
    assert time.monotonic() - start >= 1.2


def test_cancelled_before_the_next_step(workflows):
    """A cancelled run does no further step, wakes from its sleep, and stays cancelled after reopening."""
    acts = []
    stepped = threading.Event()

    def long(run, payload):
        run.step("first", lambda: acts.append("first") or {})
        stepped.set()
        run.sleep("doze", timedelta(seconds=60))
        run.step("second", lambda: acts.append("second") or {})
        return {}

    workflows.register("long", long)
    with workflows.open() as opened:
        opened.start(call(name="long"))
        assert stepped.wait(10)
        opened.cancel("w1")
        assert opened.wait("w1", timeout=SOON).state is WorkflowState.CANCELLED
        assert opened.unfinished() == ()
    with workflows.open() as opened:
        assert opened.get("w1").state is WorkflowState.CANCELLED
    assert acts == ["first"]


def test_a_step_name_is_unique_in_its_run(workflows):
    """A name used twice fails the run and says so."""

    def twice(run, payload):
        run.step("act", dict)
        run.step("act", dict)
        return {}

    workflows.register("twice", twice)
    with workflows.open() as opened:
        opened.start(call(name="twice"))
        run = opened.wait("w1", timeout=SOON)
    assert run.state is WorkflowState.FAILED
    assert "two steps named 'act'" in run.error


def test_a_step_may_start_and_ask(workflows):
    """Inside a step other workflows can be started and looked at, as from outside."""

    def parent(run, payload):
        def act():
            workflows.start(call("child", "child"))
            return {"state": workflows.get("child").name}

        return run.step("act", act)

    workflows.register("parent", parent)
    workflows.register("child", lambda run, payload: {"done": True})
    with workflows.open() as opened:
        opened.start(call(name="parent"))
        assert opened.wait("w1", timeout=SOON).result == {"state": "child"}
        assert opened.wait("child", timeout=SOON).result == {"done": True}


def test_the_relay_starts_each_call_once(workflows):
    """The relay starts what the outbox holds; killed before it forgot a call, it starts nothing twice."""
    runs = []
    workflows.register("mend", lambda run, payload: runs.append(payload["n"]) or {})
    unit = MemoryUnitOfWork({})
    for number in range(3):
        unit.write(lambda tx, number=number: tx.start(call(f"w{number}", n=number)))

    class DyingUnit(MemoryUnitOfWork):
        def write(self, work):
            raise Killed

    with workflows.open() as opened:
        dying = OutboxRelay(DyingUnit({}, _shared=unit._shared), opened)
        with pytest.raises(Killed):
            dying.start_pending()
        assert unit.read(lambda tx: tx.store(Outbox).depth()) == 3
        relay = OutboxRelay(unit, opened)
        assert relay.start_pending(limit=2) == 2
        assert relay.start_pending() == 1
        assert relay.start_pending() == 0
        for number in range(3):
            opened.wait(f"w{number}", timeout=SOON)
    assert sorted(runs) == [0, 1, 2]
