"""The contract of ProfileStore, over memory, SQLite and PostgreSQL."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from mendel.adapters.memory import MemoryUnitOfWork
from mendel.adapters.memory import predictions as in_memory
from mendel.adapters.sql import SqlUnitOfWork
from mendel.adapters.sql import predictions as in_sql
from mendel.predictions import ProfileRow, ProfileStore, SegmentProfile
from mendel.values import EPOCH, ModelName, Window
from support.databases import emptied_postgres, new_sqlite

CREDIT = ModelName("credit")
MINUTE = timedelta(minutes=1)


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def unit(request, tmp_path):
    if request.param == "memory":
        yield MemoryUnitOfWork(in_memory.STORES)
        return
    if request.param == "postgres":
        engine = emptied_postgres(request.getfixturevalue("postgres"))
    else:
        engine = new_sqlite(tmp_path / "mendel.db")
    yield SqlUnitOfWork(engine, in_sql.STORES, rng=random.Random(0))
    engine.dispose()


def profile(body="{}", *, spool_id="s1", seq=1, version=3, reference_id="r1", minute=0, model=CREDIT):
    window = Window(EPOCH + minute * MINUTE, EPOCH + (minute + 1) * MINUTE)
    row = ProfileRow(model=model, version=version, reference_id=reference_id, window=window, profile=body)
    return SegmentProfile(spool_id=spool_id, seq=seq, row=row)


def add(unit, *profiles):
    return unit.write(lambda tx: tx.store(ProfileStore).add(profiles))


def rows(unit, start=0, end=60, *, version=3, reference_id="r1"):
    window = Window(EPOCH + start * MINUTE, EPOCH + end * MINUTE)
    return unit.read(lambda tx: tx.store(ProfileStore).rows(CREDIT, version, reference_id, window))


def test_rows_come_back_as_they_were(unit):
    """A profile is read with its window, reference and JSON unchanged."""
    one = profile('{"bins": [1, 2]}')
    assert add(unit, one) == 1
    assert rows(unit) == (one.row,)


def test_a_known_key_is_ignored(unit):
    """A segment recorded twice counts once: the first stays."""
    assert add(unit, profile("first"), profile("other window", minute=1)) == 2
    assert add(unit, profile("second"), profile("third", seq=2)) == 1
    assert [row.profile for row in rows(unit)] == ["first", "third", "other window"]


@pytest.mark.parametrize(
    "other",
    [
        {"spool_id": "s2"},
        {"seq": 2},
        {"model": ModelName("churn")},
        {"version": 4},
        {"reference_id": "r2"},
        {"minute": 1},
    ],
)
def test_every_part_of_the_key_tells(unit, other):
    """Two rows that differ in any part of the key are two rows."""
    assert add(unit, profile(), profile(**other)) == 2


def test_windows_are_half_open(unit):
    """A row belongs to the windows that its own window starts in."""
    add(unit, *(profile(str(minute), minute=minute) for minute in range(4)))
    assert [row.profile for row in rows(unit, 1, 3)] == ["1", "2"]
    assert rows(unit, version=4) == rows(unit, reference_id="r2") == ()


def test_progress_never_goes_back(unit):
    """How far a spool is only grows, and says when it last did."""

    def advance(seq, minutes):
        unit.write(lambda tx: tx.store(ProfileStore).advance("s1", seq, EPOCH + minutes * MINUTE))

    assert unit.read(lambda tx: tx.store(ProfileStore).progress("s1")) == 0
    advance(5, 1)
    advance(3, 2)
    [spool] = unit.read(lambda tx: tx.store(ProfileStore).spools())
    assert (spool.spool_id, spool.seq, spool.at) == ("s1", 5, EPOCH + MINUTE)
    assert unit.read(lambda tx: tx.store(ProfileStore).progress("s1")) == 5


def test_old_rows_expire(unit):
    """Retention deletes the rows whose window is over, and keeps the progress."""
    add(unit, *(profile(str(minute), minute=minute) for minute in range(3)))
    unit.write(lambda tx: tx.store(ProfileStore).advance("s1", 1, EPOCH))
    assert unit.write(lambda tx: tx.store(ProfileStore).expire(EPOCH + 2 * MINUTE)) == 2
    assert [row.profile for row in rows(unit)] == ["2"]
    assert unit.read(lambda tx: tx.store(ProfileStore).progress("s1")) == 1


def test_rows_and_progress_are_one_commit(unit):
    """A unit of work that fails records neither."""

    def fail(tx):
        tx.store(ProfileStore).add([profile()])
        tx.store(ProfileStore).advance("s1", 1, EPOCH)
        raise LookupError

    with pytest.raises(LookupError):
        unit.write(fail)
    assert rows(unit) == ()
    assert unit.read(lambda tx: tx.store(ProfileStore).spools()) == ()
