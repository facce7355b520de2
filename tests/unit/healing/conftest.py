"""A registry and healing over memory or SQLite, a clock that is moved by hand, and workflows that can be killed."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from mendel.adapters.memory import MemoryUnitOfWork
from mendel.adapters.memory import all_stores as memory_stores
from mendel.adapters.sql import SqlUnitOfWork
from mendel.adapters.sql import all_stores as sql_stores
from mendel.durable import Ledger, Outbox
from mendel.healing import (
    Effect,
    EffectState,
    Evidence,
    Former,
    Healing,
    HealingStore,
    PlaybookWorkflow,
    ReplayOutcome,
    ServerWatch,
    Signal,
    SignalKind,
    load_playbooks,
)
from mendel.registry import Approval, Governance, Registry, RegistryStore, VersionRecord
from mendel.retraining import LabelSupply
from mendel.values import (
    Digest,
    ModelConvergence,
    ModelName,
    ServerReport,
    Severity,
    Stage,
    VersionCounters,
    VersionRef,
    VersionUuid,
    to_builtins,
)
from support.databases import new_sqlite

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
MODEL = ModelName("credit")
AT_ONCE = {"drift": "retrain", "quality": "retrain", "ood": "retrain"}
"""Remedies of a policy that starts trainings without asking the former version."""
SIGNED = Governance(policy_compliant=Approval(by="ann", at=START), bias_check_passed=Approval(by="ann", at=START))


class Killed(BaseException):
    """Stands for SIGKILL."""


class Clock:
    """Time that only tests move."""

    def __init__(self):
        self.now = START
        self.set_by = timedelta(0)

    def __call__(self):
        return self.now

    def advance(self, span):
        self.now += span
        return self.now

    def set(self, by):
        """Somebody sets the clock; no time passes."""
        self.now += by
        self.set_by += by

    def steady(self):
        """Monotonic time."""
        return self.now - START - self.set_by


@dataclass
class Kill:
    """Kill at the *at*-th durable step: ``before`` it, ``inside`` (its change made, its result lost) or ``after``."""

    at: int
    where: str
    steps: int = 0
    struck: bool = False

    def strike(self, where):
        if not self.struck and self.steps == self.at and self.where == where:
            self.struck = True
            raise Killed


class DurableRun:
    """A run whose finished steps are remembered beyond its death."""

    def __init__(self, workflow_id, memory, clock, kill):
        self.id = workflow_id
        self._memory, self._clock, self._kill = memory, clock, kill
        self._names = set()

    def step(self, name, act):
        assert name not in self._names, f"two steps are named {name}"
        self._names.add(name)
        if name not in self._memory:
            self._kill.strike("before")
            result = to_builtins(act())
            self._kill.strike("inside")
            self._memory[name] = result
            self._kill.strike("after")
            self._kill.steps += 1
        return self._memory[name]

    def sleep(self, name, span):
        assert name not in self._names, f"two sleeps are named {name}"
        self._names.add(name)
        if name not in self._memory:
            self._clock.advance(span)
            self._memory[name] = True


class Eyes:
    """A watcher that answers what a test says, in turn; the last answer stays."""

    def __init__(self):
        self.answers = [EffectState.GONE]
        self.asked = []

    def effect(self, incident, *, since, now):
        self.asked.append((since, now))
        state = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return Effect(state=state, text=f"signal {state}")


class FormerVersion:
    """A former version that does on every incident as a test says."""

    def __init__(self):
        self.does = Former.AS_BAD
        self.asked = []

    def compare(self, incident, *, now, within):
        self.asked.append((incident.id, within))
        return ReplayOutcome(former=self.does, text="f1 of both versions")


class RegistryContext:
    """As many labels as a test says."""

    def __init__(self):
        self.have = 500
        self.asked = []

    def supply(self, model, document, now, *, since=None):
        self.asked.append(since)
        return LabelSupply(have=self.have, need=200, coverage=1.0, need_coverage=0.3)


class Trees:
    """An artefact store that only knows where trees lie."""

    mlflow_version = None

    def __init__(self, root: Path):
        self.root = root

    def tree(self, uuid):
        return self.root / uuid


@dataclass
class House:
    """One installation."""

    unit: object
    registry: Registry
    healing: Healing
    clock: Clock
    eyes: Eyes
    ground: RegistryContext
    trees: Trees
    former: FormerVersion
    playbook: PlaybookWorkflow = None
    memories: dict = field(default_factory=dict)
    candidates_signed: bool = True
    counted: dict = field(default_factory=dict)
    seq: int = 0
    verdict: str = "pass"
    trained: list = field(default_factory=list)

    def add_version(self, number, *, stage=Stage.SANDBOX, governance=SIGNED, model=MODEL, **more):
        record = VersionRecord(
            ref=VersionRef(model, number),
            run_id=None,
            stage=stage,
            flavor="sklearn",
            task="classification",
            artifact_digest=Digest(f"sha256:{number:064x}"),
            registered_at=self.clock(),
            governance=governance,
            **{"uuid": VersionUuid(f"m-{number:032x}"), "idempotency_key": f"{model}-{number}", **more},
        )
        self.unit.write(lambda tx: tx.store(RegistryStore).add_version(record))
        return record.ref

    def settled(self):
        """A former version 1, and version 2 in production for an hour, under a policy that retrains at once."""
        self.policy()
        for number in (1, 2):
            self.add_version(number)
            self.promote(number)
            self.clock.advance(timedelta(hours=1))
        return self

    def promote(self, number):
        return self.registry.lifecycle.promote(VersionRef(MODEL, number), by="ann")

    def policy(self, **healing):
        self.registry.policies.set(MODEL, {"healing": {"remedies": AT_ONCE, **healing}})

    def store(self, work):
        return self.unit.read(lambda tx: work(tx.store(HealingStore)))

    def events(self, *types):
        return [e.event for e in self.unit.read(lambda tx: tx.store(Ledger).entries(types=types))]

    def pending(self):
        return self.unit.read(lambda tx: tx.store(Outbox).pending(100))

    def pending_playbooks(self):
        return [call for call in self.pending() if call.name == "playbook"]

    def train(self, run, payload):
        """A retraining in three steps that registers its candidate once."""
        run.step("collect", lambda: {"rows": 400})

        def register():
            number = 1 + max(record.ref.number for record in self.registry.versions.of(MODEL))
            known = self.unit.read(lambda tx: tx.store(RegistryStore).version_by_key(MODEL, payload["run"]))
            if known is None:
                signed = SIGNED if self.candidates_signed else Governance()
                ref = self.add_version(number, governance=signed, idempotency_key=payload["run"])
                self.trained.append(str(ref))
                return {"candidate": str(ref)}
            return {"candidate": str(known.ref)}

        candidate = run.step("register", register)["candidate"]
        run.step("judge", lambda: {"verdict": self.verdict})
        return {"candidate": candidate, "verdict": self.verdict, "text": f"{candidate}: {self.verdict}"}

    def play(self, kill=None):
        """Start everything in the outbox and play it to its end, resuming after each kill; gives the kills."""
        kill = kill or Kill(at=-1, where="never")
        while calls := self.pending_playbooks():
            for call in calls:
                memory = self.memories.setdefault(call.id, {})
                self.play_one(call, memory, kill)
                self.unit.write(lambda tx, c=call: tx.store(Outbox).mark_started(c.id))
        return kill

    def play_one(self, call, memory, kill):
        for _ in range(3):
            try:
                return self.playbook(DurableRun(call.id, memory, self.clock, kill), call.input)
            except Killed:
                continue
        raise AssertionError("killed too often")

    def report(
        self,
        *,
        server="s1",
        epoch="e",
        number=2,
        requests=0,
        errors=0,
        desired=None,
        serving=None,
        error=None,
        at_fault=False,
        leaving=False,
        **line,
    ):
        """What a server says of the model: counters that grow by *requests*, and the generation it serves."""
        deployment = self.registry.lifecycle.deployment(MODEL)
        before = self.counted.get(number, VersionCounters(model=MODEL, version=number))
        after = VersionCounters(
            model=MODEL,
            version=number,
            requests=before.requests + requests,
            model_errors=before.model_errors + errors,
            rows=before.rows + requests,
            latency=(before.latency[0] + requests, *before.latency[1:]),
        )
        self.counted[number] = after
        self.seq += 1
        self.registry.performance.record_server_report(
            ServerReport(
                server=server,
                epoch=epoch,
                seq=self.seq,
                at=self.clock(),
                revision=self.registry.lifecycle.revision(),
                ready=True,
                convergence=(
                    ModelConvergence(
                        model=MODEL,
                        generation_desired=deployment.generation if desired is None else desired,
                        generation_serving=deployment.generation if serving is None else serving,
                        error=error,
                        version_at_fault=at_fault,
                        **{
                            "version_serving": number,
                            "failed_version": deployment.production if error else None,
                            **line,
                        },
                    ),
                ),
                counters=(after,),
                spool={},
                leaving=leaving,
            )
        )

    def pass_time(self, monitor, span, *reports):
        """Let *span* pass: every 2 s the reports (arguments of :meth:`report`) arrive, and the monitor looks."""
        for _ in range(int(span / timedelta(seconds=2))):
            self.clock.advance(timedelta(seconds=2))
            for one in reports:
                self.report(**one)
            signals = monitor.look(MODEL, self.clock())
        return signals

    def signal(self, kind=SignalKind.FAULTS, *, number=2, severity=Severity.HIGH, **more):
        reasons = more.pop("reasons", (f"{kind} is beyond its bound",))
        evidence = Evidence(policy_hash="h", readings={"value": 0.5}, digests=("sha256:d",))
        return Signal(
            kind=kind,
            ref=VersionRef(MODEL, number),
            severity=severity,
            at=self.clock(),
            reasons=reasons,
            evidence=evidence,
            **more,
        )


def build(unit, root):
    clock, ids = Clock(), count(1)
    new_id = lambda: f"id-{next(ids)}"  # noqa: E731 - one line, one use
    trees, eyes, ground = Trees(root), Eyes(), RegistryContext()
    registry = Registry(unit, trees, clock, new_id)
    healing = Healing(unit, registry, playbooks=load_playbooks(), training=ground, new_id=new_id)
    house = House(
        unit=unit,
        registry=registry,
        healing=healing,
        clock=clock,
        eyes=eyes,
        ground=ground,
        trees=trees,
        former=FormerVersion(),
    )
    house.playbook = PlaybookWorkflow(
        unit, registry, watcher=eyes, former=house.former, retrain=house.train, clock=clock, new_id=new_id
    )
    return house


def watch(house):
    """The watch of a monitor that looks at *house*."""
    return ServerWatch(house.clock.steady, longest_gap=timedelta(seconds=5))


@pytest.fixture
def make_watch():
    """Makes watches over the servers of houses."""
    return watch


@pytest.fixture
def make_house(tmp_path):
    """Makes houses over memory."""
    return lambda: build(MemoryUnitOfWork(memory_stores()), tmp_path)


@pytest.fixture
def make_sql_house(tmp_path):
    """Makes houses over SQLite, each on a file of its own."""
    engines, numbers = [], count(1)

    def make():
        engine = new_sqlite(tmp_path / f"mendel-{next(numbers)}.db")
        engines.append(engine)
        unit = SqlUnitOfWork(engine, sql_stores(), rng=random.Random(0))
        return build(unit, tmp_path)

    yield make
    for engine in engines:
        engine.dispose()


@pytest.fixture
def house(make_house):
    """A model with a former version 1 and version 2 in production for an hour."""
    return make_house().settled()


@pytest.fixture
def make_kill():
    """Makes kills."""
    return Kill
