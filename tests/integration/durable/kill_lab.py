"""
Runs one workflow in many processes that are killed with SIGKILL, each at another point, and then resumes them.

    python kill_lab.py DIRECTORY POINT...

Each point has its own databases in DIRECTORY/POINT. Children are forked, so that the imports are paid once.
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
from mendel.adapters.sql import SqlUnitOfWork, open_engine, prepare_schema
from mendel.durable import Event, Relay, StepKey, WorkflowCall, WorkflowState
from mendel.errors import PromotionRefused
from mendel.values import EPOCH, to_json

CALL = WorkflowCall(name="retrain", id="run-1", input={"model": "credit"})


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


def child(directory, point):
    engine = open_engine(directory / "mendel.db")
    prepare_schema(engine)
    unit = SqlUnitOfWork(engine, {}, rng=random.Random(0))
    durable = DbosWorkflows(
        directory / "workflows.db", executor_id="hub", application_version="1", clock=lambda: datetime.now(UTC)
    )
    deadly = KillingWorkflows(durable, point)
    deadly.register("retrain", retrain(unit, directory))
    with durable.open():
        unit.write_once(StepKey(workflow_id="cli", step="ask"), lambda tx: tx.start(CALL) or {})
        Relay(unit, deadly).pass_on()
        run = durable.wait(CALL.id, timeout=timedelta(seconds=20))
        assert run.state is WorkflowState.DONE, run
        (directory / "run.json").write_bytes(to_json(run))
    engine.dispose()


def forked(directory, point):
    directory.mkdir(exist_ok=True)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            child(directory, point)
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return pid


def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main():
    root, points = Path(sys.argv[1]), sys.argv[2:]
    for point, pid in [(point, forked(root / point, point)) for point in points]:
        expected = 0 if point == "nowhere" else -signal.SIGKILL
        assert ended(pid) == expected, f"{point} ended otherwise"
    for point, pid in [(point, forked(root / point, "nowhere")) for point in points]:
        assert ended(pid) == 0, f"{point} did not resume"


if __name__ == "__main__":
    main()
