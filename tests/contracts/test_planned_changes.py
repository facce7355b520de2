"""The contract of PlannedChanges, over memory, SQLite and PostgreSQL."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from mendel.adapters.memory import MemoryUnitOfWork
from mendel.adapters.memory.registry import STORES as MEMORY_STORES
from mendel.adapters.sql import SqlUnitOfWork
from mendel.adapters.sql.registry import STORES as SQL_STORES
from mendel.registry import CanaryRun, PlannedChanges, WaitingPromotion, WaitingState
from mendel.values import EPOCH, ModelName, VersionRef
from support.databases import emptied_postgres, new_sqlite

A, B = VersionRef(ModelName("a"), 1), VersionRef(ModelName("b"), 2)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def unit(request, tmp_path):
    if request.param == "memory":
        yield MemoryUnitOfWork(MEMORY_STORES)
        return
    if request.param == "postgres":
        engine = emptied_postgres(request.getfixturevalue("postgres"))
    else:
        engine = new_sqlite(tmp_path / "mendel.db")
    yield SqlUnitOfWork(engine, SQL_STORES, rng=random.Random(0))
    engine.dispose()


def put(unit, *planned):
    def work(tx):
        store = tx.store(PlannedChanges)
        for one in planned:
            (store.put_promotion if isinstance(one, WaitingPromotion) else store.put_canary_run)(one)

    unit.write(work)


def ask(unit, question):
    return unit.read(lambda tx: question(tx.store(PlannedChanges)))


def test_the_last_promotion_of_each_model_is_kept(unit):
    """A second promotion of a model replaces the first; those that wait are found among all, by model."""
    first = WaitingPromotion(id="1", ref=B, at=EPOCH, by="ann", requested_at=EPOCH, override="gates are away")
    ended = replace(first, id="2", state=WaitingState.DONE, ended_at=EPOCH, why="promoted")
    other = WaitingPromotion(id="3", ref=A, at=EPOCH, by="ann", requested_at=EPOCH, until=EPOCH)
    put(unit, first, ended, other)
    assert ask(unit, lambda store: store.promotions(waiting=False)) == (other, ended)
    assert ask(unit, lambda store: store.promotions(waiting=True)) == (other,)
    assert ask(unit, lambda store: store.promotion(B.model)) == ended
    assert ask(unit, lambda store: store.promotion(ModelName("nobody"))) is None


def test_a_model_has_one_canary_in_steps(unit):
    """A run replaces the former one of its model, and is gone after it was dropped; dropping nothing is no error."""
    run = CanaryRun(ref=B, steps=(0.05, 0.5), began=EPOCH, step_began=EPOCH, by="ann")
    other = replace(run, ref=A)
    put(unit, run, replace(run, step=1), other)
    assert ask(unit, lambda store: store.canary_runs()) == (other, replace(run, step=1))
    for _ in range(2):
        unit.write(lambda tx: tx.store(PlannedChanges).drop_canary_run(B.model))
    assert ask(unit, lambda store: store.canary_run(B.model)) is None
    assert ask(unit, lambda store: store.canary_run(A.model)) == other
