"""
Changes of the registry that are killed at any statement, meet a locked database or each other, or a clock set back.

A killed process loses the transaction that it has not committed; here the statement raises, and the connection is lost
in the same way.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from contextlib import closing, contextmanager
from datetime import timedelta
from itertools import pairwise

import pytest
from sqlalchemy import event

from mendel.adapters.sql import SqlUnitOfWork, all_stores
from mendel.durable import StepKey
from mendel.errors import Conflict, GenerationConflict, StoreUnavailable
from mendel.registry import CanaryRun, SideRole, in_production_at
from mendel.resilience import RetryPolicy
from mendel.values import Stage
from support.databases import new_sqlite

HOUR = timedelta(hours=1)
SHORT = RetryPolicy(attempts=2, base=timedelta(0), cap=timedelta(0))


class Killed(BaseException):
    """Stands for SIGKILL."""


class Kill:
    """Raises at the *at*-th statement of the database, or at a commit."""

    def __init__(self, engine, at):
        self.engine, self.at, self.statements = engine, at, 0

    def __enter__(self):
        event.listen(self.engine, "before_cursor_execute", self._strike)
        event.listen(self.engine, "commit", self._strike)
        return self

    def __exit__(self, *_):
        event.remove(self.engine, "before_cursor_execute", self._strike)
        event.remove(self.engine, "commit", self._strike)

    def _strike(self, *_):
        self.statements += 1
        if self.statements == self.at:
            raise Killed


@pytest.fixture
def engine(tmp_path):
    engine = new_sqlite(tmp_path / "mendel.db")
    yield engine
    engine.dispose()


@pytest.fixture
def stored(house, engine):
    """The house over SQLite: version 1 was in production, 2 is, 3 and 4 are ready."""
    house.unit = SqlUnitOfWork(engine, all_stores(), rng=random.Random(0), retries=SHORT)
    house.registry = house.over()
    house.promoted(2)
    house.register()
    house.register()
    house.clock.forward(minutes=1)
    return house


@pytest.fixture
def version(stored, engine):
    """Gives a number that differs if and only if a transaction was committed to the database meanwhile."""
    with closing(sqlite3.connect(engine.url.database, isolation_level=None)) as observer:
        yield lambda: observer.execute("PRAGMA data_version").fetchone()


def step(house, share=1):
    run = CanaryRun(
        ref=house.ref(3), steps=(0.1, 0.5), step=share, began=house.clock(), step_began=house.clock(), by="ann"
    )
    return house.registry.side_routes.canary(house.model, 3, run.share, by="healing", run=run)


def planned(house):
    house.registry.promotions.plan(house.ref(4), house.clock() + HOUR, by="ann")
    house.clock.forward(hours=1)


CHANGES = {
    "promote": lambda house: house.registry.lifecycle.promote(house.ref(3), by="ann"),
    "roll_back": lambda house: house.registry.lifecycle.roll_back(house.model, by="ann", reason="r"),
    "undeploy": lambda house: house.registry.lifecycle.undeploy(house.model, by="ann"),
    "canary": lambda house: step(house, share=0),
    "deprecate": lambda house: house.registry.lifecycle.transition(house.ref(3), Stage.DEPRECATED, by="ann"),
    "shadow": lambda house: house.registry.side_routes.set_side_version(house.model, SideRole.SHADOW, 3, by="ann"),
    "plan": lambda house: house.registry.promotions.plan(house.ref(3), house.clock() + HOUR, by="ann"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_killed_at_any_statement_changes_nothing(stored, engine, version, change):
    """Killed at each statement and at the commit in turn, nothing is committed; then the change goes through."""
    before, at = version(), 1
    while True:
        with Kill(engine, at) as kill:
            try:
                CHANGES[change](stored)
            except Killed:
                killed = True
            else:
                killed = False
        if not killed:
            break
        assert version() == before
        at += 1
    assert kill.statements == at - 1 > 5
    assert version() != before


def test_a_promotion_of_a_workflow_happens_once_wherever_it_is_killed(stored, engine):
    """Repeated under its step after each kill, also after the commit, the promotion is made once."""
    key = StepKey(workflow_id="w", step="promote")
    for at in range(1, 100):
        with Kill(engine, at):
            try:
                done = stored.registry.lifecycle.promote(stored.ref(3), by="healing", step=key)
                break
            except Killed:
                continue
    assert stored.registry.lifecycle.promote(stored.ref(3), by="healing", step=key) == done
    assert done == stored.registry.lifecycle.deployment(stored.model)
    assert len(stored.events("model.promoted")) == 3


def test_a_planned_promotion_killed_anywhere_happens_once(stored, engine):
    """Killed at each statement of both transactions in turn, a planned promotion is made once and ends once."""
    planned(stored)
    ends = ()
    for at in range(1, 200):
        with Kill(engine, at):
            try:
                ends = stored.registry.promotions.carry_out_due()
                break
            except Killed:
                continue
    assert [end.state for end in ends] == ["done"]
    assert stored.registry.lifecycle.deployment(stored.model).generation == 3
    assert len(stored.events("promotion.ended")) == 1


def test_a_registration_killed_at_any_statement_lists_nothing(stored, engine):
    """Killed at each statement in turn, no version is listed; the same call with the same key makes one version."""
    tree, request = stored.tree(), stored.request(idempotency_key="k")
    for at in range(1, 100):
        assert len(stored.registry.versions.of(stored.model)) == 4
        with Kill(engine, at):
            try:
                record = stored.registry.versions.register(request, tree)
                break
            except Killed:
                continue
    assert at > 5
    assert record.number == 5
    assert stored.registry.foreign.of(stored.model) == ()


@contextmanager
def locked(engine):
    """Another program holds the write lock of the database."""
    with closing(sqlite3.connect(engine.url.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.mark.parametrize("change", ["promote", "roll_back", "plan"])
def test_a_locked_database_is_unavailable_and_changes_nothing(stored, engine, version, change):
    """While another program holds the lock, the change ends with StoreUnavailable; afterwards it goes through."""
    before = version()
    event.listen(engine, "checkout", lambda connection, *_: connection.execute("PRAGMA busy_timeout = 0"))
    with locked(engine), pytest.raises(StoreUnavailable):
        CHANGES[change](stored)
    assert version() == before
    CHANGES[change](stored)
    assert version() != before


def test_of_two_promotions_at_once_one_wins_fifty_times(stored):
    """Two threads promote two versions under the same generation: each time one wins, the other gets a conflict."""
    lifecycle = stored.registry.lifecycle
    pairs = [(stored.ref(3), stored.ref(4)), (stored.ref(1), stored.ref(2))]
    for turn in range(50):
        barrier, seen, outcomes = threading.Barrier(2), lifecycle.deployment(stored.model).generation, []

        def promote(ref, barrier=barrier, seen=seen, outcomes=outcomes):
            barrier.wait()
            try:
                outcomes.append(lifecycle.promote(ref, by="ann", expected_generation=seen).production)
            except GenerationConflict:
                outcomes.append(None)

        threads = [threading.Thread(target=promote, args=(ref,)) for ref in pairs[turn % 2]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (winner,) = [number for number in outcomes if number is not None]
        deployment = lifecycle.deployment(stored.model)
        assert (len(outcomes), deployment.production, deployment.generation) == (2, winner, seen + 1)
    stages = [record.stage for record in stored.registry.versions.of(stored.model)]
    assert stages.count(Stage.PRODUCTION) == 1


def test_a_clock_set_back_keeps_the_history_in_order(stored):
    """Promotions and rollbacks after the clock was set back follow in the history, without a negative period."""
    lifecycle = stored.registry.lifecycle
    stored.clock.forward(hours=-5)
    lifecycle.promote(stored.ref(3), by="ann")
    lifecycle.roll_back(stored.model, by="ann", reason="r")
    stored.clock.forward(hours=-5)
    lifecycle.undeploy(stored.model, by="ann")
    stored.clock.forward(hours=20)
    lifecycle.promote(stored.ref(4), by="ann")
    history = lifecycle.history(stored.model)
    assert [period.version for period in history] == [1, 2, 3, 2, 4]
    assert all(period.end is None or period.start <= period.end for period in history)
    assert all(before.end <= after.start for before, after in pairwise(history))
    assert in_production_at(history, stored.clock()) == 4


@pytest.mark.soak
def test_random_changes_killed_at_random_for_long(stored, engine, version, soak_seconds):
    """Whatever is changed, killed at a random statement, and repeated: each change is made whole or not at all."""
    rng, end = random.Random(time.time_ns()), time.monotonic() + soak_seconds
    while time.monotonic() < end:
        stored.clock.forward(seconds=rng.randint(-3600, 7200))
        act, before = rng.choice([*CHANGES.values(), planned, lambda house: house.register()]), version()
        with Kill(engine, rng.randint(1, 40)):
            try:
                act(stored)
            except Killed:
                if act in CHANGES.values():
                    assert version() == before
            except Conflict:
                assert version() == before
        stored.registry.promotions.carry_out_due()
        deployment = stored.registry.lifecycle.deployment(stored.model)
        stages = [r.number for r in stored.registry.versions.of(stored.model) if r.stage is Stage.PRODUCTION]
        assert stages == [number for number in (deployment.production,) if number is not None]
