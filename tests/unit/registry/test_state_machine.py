"""The registry under arbitrary sequences of verbs: whatever is tried, its invariants hold."""

from __future__ import annotations

import itertools
import random
import shutil
import tempfile
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mendel.adapters.memory import MemoryUnitOfWork
from mendel.adapters.memory.artifacts import MemoryArtifacts
from mendel.adapters.memory.registry import STORES as MEMORY_STORES
from mendel.adapters.sql import SqlUnitOfWork
from mendel.adapters.sql.registry import STORES as SQL_STORES
from mendel.durable import Ledger
from mendel.errors import Conflict, GenerationConflict
from mendel.registry import TRANSITIONS, Registration, Registry, SideRole, in_production_at, state_faults
from mendel.values import EPOCH, ModelName, Stage, VersionRef
from support.databases import new_sqlite

CREDIT = ModelName("credit")
UNFIT = {Stage.ROLLBACK, Stage.DEPRECATED}
numbers = st.integers(1, 5)


class RegistryMachine(RuleBasedStateMachine):
    """Tries every verb at any time; a refusal must change nothing, a success must keep the invariants."""

    def open(self, root):
        self.unit = MemoryUnitOfWork(MEMORY_STORES)

    def __init__(self):
        super().__init__()
        self.root = root = Path(tempfile.mkdtemp(prefix="mendel-machine-"))
        self.open(root)
        self.now = EPOCH + timedelta(days=1)
        ids = (f"id-{n}" for n in itertools.count())
        self.registry = Registry(self.unit, MemoryArtifacts(root / "kept"), lambda: self.now, lambda: next(ids))
        self.tree = root / "tree"
        self.tree.mkdir()
        (self.tree / "MLmodel").write_text("flavors: {sklearn: {}}\n")
        self.born = {}
        self.generation = 0
        self.revision = 0

    def teardown(self):
        shutil.rmtree(self.root)

    @initialize()
    def register_some(self):
        for _ in range(4):
            self.register()

    def refs(self):
        return [r.ref for r in self.registry.versions.of(CREDIT)]

    def ref(self, number):
        known = self.refs()
        return known[(number - 1) % len(known)]

    def stages(self):
        return {r.number: r.stage for r in self.registry.versions.of(CREDIT)}

    def state(self):
        registry = self.registry
        return (
            self.stages(),
            registry.lifecycle.deployment(CREDIT),
            registry.lifecycle.history(CREDIT),
            registry.lifecycle.revision(),
        )

    def attempt(self, act):
        """Run *act*; when it is refused, nothing may have changed."""
        before = self.state()
        try:
            return act()
        except Conflict:
            assert self.state() == before
            return None

    @rule(stage=st.sampled_from([Stage.DEVELOPMENT, Stage.SANDBOX]))
    def register(self, stage=Stage.SANDBOX):
        record = self.registry.versions.register(Registration(model=CREDIT, flavor="sklearn", task="binary"), self.tree)
        self.born[record.number] = Stage.DEVELOPMENT
        self.registry.lifecycle.approve(record.ref, policy=True, bias=True, by="ann")
        if stage is Stage.SANDBOX:
            self.registry.lifecycle.transition(record.ref, stage, by="ann", without_parity="no rows")

    @rule(seconds=st.integers(0, 90_000))
    def wait(self, seconds):
        self.now += timedelta(seconds=seconds)
        self.registry.lifecycle.release_kept(CREDIT, self.now)

    @rule(number=numbers, to=st.sampled_from(Stage), why=st.sampled_from([None, "no rows"]))
    def move(self, number, to, why):
        ref = self.ref(number)
        before = self.stages()[ref.number]
        if self.attempt(lambda: self.registry.lifecycle.transition(ref, to, by="ann", without_parity=why)):
            assert to in TRANSITIONS[before]
            assert why or to is Stage.DEPRECATED or before is not Stage.DEVELOPMENT

    @rule(deprecate=st.booleans())
    def undeploy(self, deprecate):
        serves = self.registry.lifecycle.deployment(CREDIT).production is not None
        deployment = self.attempt(lambda: self.registry.lifecycle.undeploy(CREDIT, by="ann", deprecate=deprecate))
        assert (deployment is not None) is serves
        assert deployment is None or deployment.versions == ()

    @rule(number=numbers)
    def promote(self, number):
        ref = self.ref(number)
        ready = self.stages()[ref.number] in {Stage.SANDBOX, Stage.CANARY}
        deployment = self.attempt(lambda: self.registry.lifecycle.promote(ref, by="ann"))
        assert (deployment is not None) is ready
        if deployment is not None:
            assert deployment.production == ref.number

    @rule(error_rate=st.sampled_from([0.01, 0.02]))
    def set_policy(self, error_rate):
        self.registry.policies.set(CREDIT, {"rollback": {"error_rate": error_rate}})

    @rule()
    def promote_the_newest_that_is_ready(self):
        ready = [n for n, stage in self.stages().items() if stage in {Stage.SANDBOX, Stage.CANARY}]
        if ready:
            assert self.registry.lifecycle.promote(VersionRef(CREDIT, ready[-1]), by="ann").production == ready[-1]

    @rule(number=numbers, stale=st.integers(1, 3))
    def promote_under_a_stale_generation(self, number, stale):
        seen = self.registry.lifecycle.deployment(CREDIT).generation - stale
        before = self.state()
        try:
            self.registry.lifecycle.promote(self.ref(number), by="ann", expected_generation=seen)
        except GenerationConflict:
            assert self.state() == before
        else:
            raise AssertionError("a promotion under a stale generation went through")

    @rule(number=numbers, share=st.sampled_from([0.1, 0.5]))
    def canary(self, number, share):
        self.attempt(lambda: self.registry.side_routes.canary(CREDIT, self.ref(number).number, share, by="ann"))

    @rule(seconds=st.integers(1, 90_000))
    def set_the_clock_back(self, seconds):
        self.now -= timedelta(seconds=seconds)

    @rule(role=st.sampled_from(SideRole), number=st.none() | numbers)
    def set_side_version(self, role, number):
        number = None if number is None else self.ref(number).number
        stages = self.stages()
        deployment = self.attempt(lambda: self.registry.side_routes.set_side_version(CREDIT, role, number, by="ann"))
        if deployment is not None:
            assert getattr(deployment, role) == number
            assert number is None or stages[number] in {Stage.SANDBOX, Stage.ROLLBACK}
        assert self.stages() == stages

    @rule(number=st.none() | numbers)
    def roll_back(self, number):
        stages, deployment, tenures, _ = self.state()
        serving = deployment.production
        fit = [t.version for t in reversed(tenures) if t.version != serving and stages[t.version] not in UNFIT]
        done = self.attempt(lambda: self.registry.lifecycle.roll_back(CREDIT, by="healing", reason="r", to=number))
        if number is None:
            assert (done is not None) is (serving is not None and bool(fit))
        if done is not None:
            assert done.from_version.number == serving
            assert done.to_version.number == (fit[0] if number is None else number)
            assert self.stages()[serving] is Stage.ROLLBACK

    @precondition(lambda self: self.registry.lifecycle.deployment(CREDIT).production is not None)
    @rule()
    def promote_and_roll_back_restores_exactly(self):
        """What served before a promotion serves after its rollback, alone, and everything else stands as it stood."""
        self.register()
        fresh = self.refs()[-1]
        stages, deployment = self.stages(), self.registry.lifecycle.deployment(CREDIT)
        promoted = self.registry.lifecycle.promote(fresh, by="ann")
        assert promoted.keep == (deployment.production,)
        restored = self.registry.lifecycle.roll_back(CREDIT, by="healing", reason="r").deployment
        assert restored.production == deployment.production
        assert len(restored.routes) == 1
        demoted = {route.version: Stage.SANDBOX for route in deployment.routes[1:]}
        assert self.stages() == {**stages, **demoted, fresh.number: Stage.ROLLBACK}

    @invariant()
    def at_most_one_production_version_and_it_is_the_deployed_one(self):
        stages, deployment, tenures, _ = self.state()
        assert [n for n, s in stages.items() if s is Stage.PRODUCTION] == [
            n for n in (deployment.production,) if n is not None
        ]
        assert [n for n, s in stages.items() if s is Stage.CANARY] == [r.version for r in deployment.routes[1:]]
        assert [t.version for t in tenures if t.end is None] == [n for n in (deployment.production,) if n is not None]
        if deployment.production is not None:
            assert in_production_at(tenures, max(self.now, tenures[-1].start)) == deployment.production
        assert all(before.end <= after.start for before, after in pairwise(tenures))
        assert not {stages[n] for n in deployment.versions} & {Stage.DEPRECATED}

    @invariant()
    def generations_and_revisions_only_grow(self):
        deployment, revision = self.registry.lifecycle.deployment(CREDIT), self.registry.lifecycle.revision()
        assert deployment.generation >= self.generation
        assert revision - self.revision == deployment.generation - self.generation
        self.generation, self.revision = deployment.generation, revision

    @invariant()
    def the_ledger_tells_the_same_story(self):
        """Replaying the stage changes of the ledger gives the stages there are, each along the table."""
        entries = self.unit.read(lambda tx: tx.store(Ledger).entries(types=["model.stage_changed"], limit=10_000))
        told = dict(self.born)
        for entry in entries:
            number = VersionRef.parse(entry.event.subject).number
            before, after = Stage(entry.event.data["from_stage"]), Stage(entry.event.data["to_stage"])
            assert told[number] is before
            assert after in TRANSITIONS[before]
            told[number] = after
        assert told == self.stages()

    @invariant()
    def the_events_give_the_tables(self):
        """The state that is folded from the events is the state in the tables, row by row."""
        assert self.unit.read(lambda tx: list(state_faults(tx))) == []


class SqlRegistryMachine(RegistryMachine):
    """The same over SQLite."""

    def open(self, root):
        self.engine = new_sqlite(root / "mendel.db")
        self.unit = SqlUnitOfWork(self.engine, SQL_STORES, rng=random.Random(0))

    def teardown(self):
        self.engine.dispose()
        super().teardown()


TestMemoryMachine = RegistryMachine.TestCase
TestMemoryMachine.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestSqlMachine = SqlRegistryMachine.TestCase
TestSqlMachine.settings = settings(
    max_examples=6, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
