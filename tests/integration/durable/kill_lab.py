"""
Runs one workflow in many processes that are killed with SIGKILL, each at another point, and then resumes them.

    python kill_lab.py DIRECTORY POINT...
    python kill_lab.py DIRECTORY --random SEED

Each point has its own databases in DIRECTORY/POINT; chance has DIRECTORY/chance-N. Children are forked, so that the
imports are paid once.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mendel.adapters.dbos import DbosWorkflows
from mendel.adapters.sql import SqlUnitOfWork, open_engine, prepare_schema, translated
from mendel.durable import Event, OutboxRelay, StepKey, WorkflowCall, WorkflowState
from mendel.errors import PromotionRefused
from mendel.values import EPOCH, to_json

CALLS = [WorkflowCall(name="retrain", id=f"run-{number}", input={"model": "credit"}) for number in range(1, 8)]
LANES = 3


def die():
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(10)  # the signal is on its way


class KillingRun:
    """A run that kills its process before, inside or after one of its steps."""

    def __init__(self, run, point):
        self.inner, self.point, self.id = run, point, run.id

    def step(self, name, act):
        def deadly():
            outcome = act()
            if self.point == f"inside-{name}":
                die()
            return outcome

        if self.point == f"before-{name}":
            die()
        try:
            return self.inner.step(name, deadly)
        finally:
            if self.point == f"after-{name}":
                die()

    def sleep(self, name, span):
        if self.point == f"during-{name}":
            threading.Timer(0.15, die).start()
        self.inner.sleep(name, span)


class KillingWorkflows:
    """Workflows that kill their process at one named point."""

    def __init__(self, workflows, point):
        self.inner, self.point = workflows, point

    def register(self, name, function):
        self.inner.register(name, lambda run, payload: function(KillingRun(run, self.point), payload))

    def start(self, call):
        if self.point == "before-start":
            die()
        self.inner.start(call)
        if self.point == "after-start":
            die()


def retrain(unit, directory):
    """A workflow with changes, an error that is caught, and a sleep."""

    def change(run, name, **data):
        def act():
            with (directory / "acts.log").open("a") as log:
                log.write(f"{name}\n")

            def work(tx):
                event = Event(
                    id=f"{run.id}/{name}", type=f"retrain.{name}", subject="credit", time=EPOCH, actor="lab", data=data
                )
                tx.append(event)
                return {"did": name, **data}

            return unit.write_once(StepKey(workflow_id=run.id, step=name), work)

        return run.step(name, act)

    def refuse():
        raise PromotionRefused("The gates are undecided.", reasons=("samples",))

    def body(run, payload):
        collected = change(run, "collect", model=payload["model"])
        trained = change(run, "train", data=collected["did"])
        refused = ()
        try:
            run.step("gate", refuse)
        except PromotionRefused as error:
            refused = error.reasons
        run.sleep("bake", timedelta(milliseconds=300))
        promoted = change(run, "promote", version=2, refused=list(refused))
        return {"trained": trained, "promoted": promoted}

    return body


def child(directory, point, calls):
    engine = open_engine(directory / "mendel.db")
    prepare_schema(engine)
    unit = SqlUnitOfWork(engine, {}, rng=random.Random(0))
    durable = DbosWorkflows(
        directory / "workflows.db",
        executor_id="hub",
        application_version="1",
        clock=lambda: datetime.now(UTC),
        database_errors=translated,
    )
    deadly = KillingWorkflows(durable, point)
    deadly.register("retrain", retrain(unit, directory))
    with durable.open():
        for call in calls:
            ask = StepKey(workflow_id="cli", step=call.id)
            unit.write_once(ask, lambda tx, call=call: tx.start(call) or {})
        OutboxRelay(unit, deadly).start_pending()
        for call in calls:
            run = durable.wait(call.id, timeout=timedelta(seconds=20))
            assert run.state is WorkflowState.DONE, run
            (directory / f"{call.id}.json").write_bytes(to_json(run))
    engine.dispose()


def forked(directory, point, calls):
    directory.mkdir(exist_ok=True)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child(directory, point, calls)
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return pid


def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def at_points(root, points):
    for point, pid in [(point, forked(root / point, point, CALLS[:1])) for point in points]:
        expected = 0 if point == "nowhere" else -signal.SIGKILL
        assert ended(pid) == expected, f"{point} ended otherwise"
    for point, pid in [(point, forked(root / point, "nowhere", CALLS[:1])) for point in points]:
        assert ended(pid) == 0, f"{point} did not resume"


def by_chance(root, rng):
    """Kill children after random times, each with one call more to start than the one before; say how many died."""
    lanes = [root / f"chance-{lane}" for lane in range(LANES)]
    kills = 0
    for count in range(1, len(CALLS) + 1):
        pids = [forked(lane, "nowhere", CALLS[:count]) for lane in lanes]
        for pid in pids:
            time.sleep(rng.uniform(0.05, 0.5))
            os.kill(pid, signal.SIGKILL)  # one that has ended waits as a zombie, so this hits no stranger
        kills += sum(ended(pid) == -signal.SIGKILL for pid in pids)
    for pid in [forked(lane, "nowhere", CALLS) for lane in lanes]:
        assert ended(pid) == 0, "it did not resume"
    return kills


def main():
    root, arguments = Path(sys.argv[1]), sys.argv[2:]
    if arguments[0] == "--random":
        print(by_chance(root, random.Random(arguments[1])))  # noqa: T201 - the answer to the test
    else:
        at_points(root, arguments)


if __name__ == "__main__":
    main()
