"""
A hub reduced to healing: opens the state of a directory, notices a fault once, and plays what follows on DBOS.

Run as ``python hub_child.py``, it forks such a hub for every line of its input, a JSON array of a directory and a step
or null, and answers each with its exit code and what it said. A hub kills itself with SIGKILL inside the durable step,
its change made and its result not yet remembered.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mendel.adapters.dbos.workflows import DbosWorkflows
from mendel.adapters.sql import SqlUnitOfWork, all_stores, open_engine, prepare_schema, translated
from mendel.durable import OutboxRelay
from mendel.healing import (
    WORKFLOW,
    Effect,
    EffectState,
    Evidence,
    Healing,
    HealingStore,
    PlaybookWorkflow,
    RunState,
    Signal,
    SignalKind,
    load_playbooks,
)
from mendel.registry import Approval, Governance, Registry, RegistryStore, VersionRecord
from mendel.values import Digest, ModelName, Severity, Stage, VersionRef, VersionUuid, to_json

MODEL = ModelName("credit")


def clock():
    return datetime.now(UTC)


def new_id():
    return str(uuid.uuid4())


class Calm:
    """A watcher that finds the signal gone at its third look."""

    def __init__(self):
        self.looks = 0

    def effect(self, incident, *, since, now):
        self.looks += 1
        return Effect(state=EffectState.GONE if self.looks > 2 else EffectState.NOT_MEASURED, text="looked")


class Deadly:
    """A run that ends the process inside one step."""

    def __init__(self, run, step):
        self.run, self.doomed, self.id = run, step, run.id

    def step(self, name, act):
        def do():
            result = act()
            if name == self.doomed:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return self.run.step(name, do)

    def sleep(self, name, span):
        self.run.sleep(name, span)


def prepare(unit, registry):
    signed = Governance(
        policy_compliant=Approval(by="ann", at=clock()), bias_check_passed=Approval(by="ann", at=clock())
    )
    for number in (1, 2):
        record = VersionRecord(
            ref=VersionRef(MODEL, number),
            uuid=VersionUuid(f"m-{number:032x}"),
            run_id=None,
            stage=Stage.SANDBOX,
            flavor="sklearn",
            task="classification",
            artifact_digest=Digest(f"sha256:{number:064x}"),
            registered_at=clock(),
            idempotency_key=str(number),
            governance=signed,
        )
        unit.write(lambda tx, r=record: tx.store(RegistryStore).add_version(r))
        registry.lifecycle.promote(record.ref, by="ann")


def play(directory: Path, doomed: str | None) -> str:
    """Play to the end and tell it, or die on the way."""
    engine = open_engine(directory / "mendel.db")
    prepare_schema(engine)
    unit = SqlUnitOfWork(engine, all_stores(), rng=random.Random())
    registry = Registry(unit, None, clock, new_id)
    healing = Healing(unit, registry, playbooks=load_playbooks(), training=None, new_id=new_id)
    body = PlaybookWorkflow(unit, registry, watcher=Calm(), former=None, retrain=None, clock=clock, new_id=new_id)
    workflows = DbosWorkflows(
        directory / "workflows.db", executor_id="hub", application_version="1", clock=clock, database_errors=translated
    )
    workflows.register(WORKFLOW, lambda run, payload: body(Deadly(run, doomed), payload))
    workflows.register("mirror_alias", lambda _run, _payload: {})
    seconds = None
    with workflows.open():
        relay = OutboxRelay(unit, workflows)
        if not registry.versions.models():
            prepare(unit, registry)
            evidence = Evidence(policy_hash="h", readings={})
            fault = Signal(
                kind=SignalKind.FAULTS,
                ref=VersionRef(MODEL, 2),
                severity=Severity.HIGH,
                at=clock(),
                reasons=("High error rate: 60.00%",),
                evidence=evidence,
            )
            while relay.start_pending():
                pass
            noticed = time.monotonic()
            healing.notice([fault], clock())
            while relay.start_pending():
                pass
            while registry.lifecycle.deployment(MODEL).production == 2:
                time.sleep(0.002)
            seconds = time.monotonic() - noticed
        deadline = clock() + timedelta(seconds=30)
        while clock() < deadline:
            relay.start_pending()
            (run,) = unit.read(lambda tx: tx.store(HealingStore).runs())
            if run.state is not RunState.RUNNING:
                break
            time.sleep(0.02)
    incidents = unit.read(lambda tx: tx.store(HealingStore).incidents())
    told = {
        "production": registry.lifecycle.deployment(MODEL).production,
        "generation": registry.lifecycle.deployment(MODEL).generation,
        "run": run.state,
        "steps": [(step.name, step.state) for step in run.steps],
        "incidents": [(one.id, one.status, [entry.kind for entry in one.timeline]) for one in incidents],
        "seconds": seconds,
    }
    engine.dispose()
    return to_json(told).decode()


def forked(directory: str, doomed: str | None) -> dict:
    """Play in a process of its own; its exit code, and what it told."""
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        status = 1
        try:
            with os.fdopen(writing, "w") as told:
                told.write(play(Path(directory), doomed))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as told:
        said = told.read()
    return {"code": os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), "said": said}


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(forked(*json.loads(line))), flush=True)  # noqa: T201 - the answer to the test
