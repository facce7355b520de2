"""The contract of UnitOfWork, Ledger, Outbox and Leases, over memory, SQLite and PostgreSQL."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta, timezone

import pytest

from mendel.adapters.memory import MemoryUnitOfWork
from mendel.adapters.sql import SqlUnitOfWork, open_engine, prepare_schema
from mendel.durable import (
    Event,
    Leases,
    Ledger,
    Outbox,
    StepKey,
    WorkflowCall,
)
from mendel.errors import AlreadyExists, Fenced, InvalidInput, StoreUnavailable
from mendel.resilience import RetryPolicy
from mendel.values import EPOCH
from support.databases import emptied_postgres, new_sqlite
from support.ledgers import whole_to

SECOND = timedelta(seconds=1)
KEY = StepKey(workflow_id="w", step="charge")


def happened(id_, *, type_="thing.happened", subject="credit", data=None):
    return Event(id=id_, type=type_, subject=subject, time=EPOCH, actor="test", data=data or {})


def call(id_):
    return WorkflowCall(name="mend", id=id_, input={"n": 1})


def entries(unit, **which):
    return unit.read(lambda tx: tx.store(Ledger).entries(**which))


def ids(unit, **which):
    return [entry.event.id for entry in entries(unit, **which)]


def pending(unit):
    return [waiting.id for waiting in unit.read(lambda tx: tx.store(Outbox).pending(100))]


def acquire(unit, holder, now, name="hub"):
    return unit.write(lambda tx: tx.store(Leases).acquire(name, holder, now=now, ttl=10 * SECOND))


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def unit(request, tmp_path):
    if request.param == "memory":
        yield MemoryUnitOfWork({})
        return
    if request.param == "postgres":
        engine = emptied_postgres(request.getfixturevalue("postgres"))
    else:
        engine = new_sqlite(tmp_path / "mendel.db")
    yield SqlUnitOfWork(engine, {}, rng=random.Random(0))
    engine.dispose()


class TestTransactions:
    def test_committed_transactions_are_counted(self, unit):
        """Each committed write counts once, also a fenced one; reads and writes that failed do not count."""

        def fail(_):
            raise KeyError("no")

        before = unit.commits
        unit.write(lambda tx: tx.store(Outbox).depth())
        unit.read(lambda tx: tx.store(Outbox).depth())
        with pytest.raises(KeyError):
            unit.write(fail)
        lease = unit.write(lambda tx: tx.store(Leases).acquire("hub", "a", now=EPOCH, ttl=SECOND))
        unit.fenced(lease).write(lambda tx: tx.store(Outbox).depth())
        assert unit.commits - before == 3

    def test_commit_gives_back_what_the_work_returned(self, unit):
        """A writing unit answers with the result of its work, and what it wrote is there."""

        def work(tx):
            tx.append(happened("e1"))
            tx.start(call("c1"))
            return 42

        assert unit.write(work) == 42
        assert ids(unit) == ["e1"]
        assert pending(unit) == ["c1"]

    def test_an_exception_rolls_back_ledger_and_outbox(self, unit):
        """Whatever leaves the work undoes all of it, even an interrupt."""

        def work(tx):
            tx.append(happened("e1"))
            tx.start(call("c1"))
            tx.store(Leases).acquire("hub", "a", now=EPOCH, ttl=SECOND)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            unit.write(work)
        assert entries(unit) == ()
        assert pending(unit) == []
        assert unit.read(lambda tx: tx.store(Leases).current("hub")) is None
        unit.write(lambda tx: tx.append(happened("e2")))
        assert [entry.sequence for entry in entries(unit)] == [1]

    def test_a_unit_sees_its_own_writes(self, unit):
        """Reads inside a transaction see what it wrote before."""

        def work(tx):
            tx.start(call("c1"))
            return tx.store(Outbox).depth()

        assert unit.write(work) == 1

    def test_nothing_is_visible_before_the_commit(self, unit):
        """Another thread reads the last commit while a unit is under way, and waits for nobody."""
        wrote, looked = threading.Event(), threading.Event()

        def work(tx):
            tx.start(call("c1"))
            tx.append(happened("e1"))
            wrote.set()
            assert looked.wait(10)

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(unit.write, work)
            assert wrote.wait(10)
            assert pending(unit) == []
            assert ids(unit) == []
            looked.set()
            writing.result(10)
        assert pending(unit) == ["c1"]

    def test_a_read_is_one_snapshot(self, unit):
        """What is committed during a read is not in it."""
        unit.write(lambda tx: tx.append(happened("e1")))

        def look(tx):
            before = tx.store(Ledger).head()
            with ThreadPoolExecutor(1) as pool:
                pool.submit(unit.write, lambda other: other.append(happened("e2"))).result(10)
            return before, tx.store(Ledger).head()

        before, after = unit.read(look)
        assert before == after
        assert ids(unit) == ["e1", "e2"]

    def test_a_read_cannot_write(self, unit):
        """Appending, starting or changing a store inside a read is refused, and changes nothing."""
        with pytest.raises(RuntimeError):
            unit.read(lambda tx: tx.append(happened("e1")))
        with pytest.raises(RuntimeError):
            unit.read(lambda tx: tx.start(call("c1")))
        with pytest.raises(Exception, match=r"read-?only|mappingproxy"):
            unit.read(lambda tx: tx.store(Leases).acquire("hub", "a", now=EPOCH, ttl=SECOND))
        assert acquire(unit, "b", EPOCH).epoch == 1

    def test_a_write_inside_a_write_is_refused(self, unit):
        """Nesting would wait for itself; it is refused at once, and the next write works."""
        with pytest.raises(RuntimeError, match="inside another"):
            unit.write(lambda _: unit.write(lambda _: None))
        lease = acquire(unit, "a", EPOCH)
        with pytest.raises(RuntimeError, match="inside another"):
            unit.write(lambda _: unit.fenced(lease).write(lambda _: None))
        unit.write(lambda tx: tx.append(happened("e1")))
        assert ids(unit) == ["e1"]

    def test_an_unwired_port_is_a_lookup_error(self, unit):
        """A port without a store names itself."""

        class Nowhere: ...

        with pytest.raises(LookupError, match="Nowhere"):
            unit.read(lambda tx: tx.store(Nowhere))


class TestLedger:
    def test_events_chain_in_order_across_transactions(self, unit):
        """Sequences are gapless from 1, events of one transaction keep their order, and the chain verifies."""

        def two(tx):
            tx.append(happened("e1"))
            tx.append(happened("e2"))

        unit.write(two)
        unit.write(lambda tx: tx.append(happened("e3")))
        assert [(entry.sequence, entry.event.id) for entry in entries(unit)] == [(1, "e1"), (2, "e2"), (3, "e3")]
        head = unit.read(lambda tx: tx.store(Ledger).head())
        assert whole_to(entries(unit)) == head.sequence

    def test_an_empty_ledger_has_no_head(self, unit):
        """Before anything happened there is no head and no entry."""
        assert unit.read(lambda tx: tx.store(Ledger).head()) is None
        assert entries(unit) == ()

    def test_the_newest_entry_until_a_moment(self, unit):
        """Of the events at or before a moment the one with the highest number is given, whatever the clock did."""
        for number, seconds in enumerate([10, 60, 20], start=1):
            event = replace(happened(f"e{number}"), time=EPOCH + seconds * SECOND)
            unit.write(lambda tx, event=event: tx.append(event))

        def newest(seconds):
            found = unit.read(lambda tx: tx.store(Ledger).newest_until(EPOCH + seconds * SECOND))
            return found and found.event.id

        assert [newest(seconds) for seconds in (9, 10, 19, 20, 60)] == [None, "e1", "e1", "e3", "e3"]

    def test_entries_are_filtered(self, unit):
        """By sequence, limit, type, and by subject, where a model finds its versions but not its namesakes."""
        for number, subject in enumerate(["credit", "credit@3", "credits", "credit@30", "other"], start=1):
            kind = "a" if number % 2 else "b"
            event = happened(f"e{number}", subject=subject, type_=kind)
            unit.write(lambda tx, event=event: tx.append(event))
        assert ids(unit, after=3) == ["e4", "e5"]
        assert ids(unit, limit=2) == ["e1", "e2"]
        assert ids(unit, types=["b"]) == ["e2", "e4"]
        assert ids(unit, subject="credit") == ["e1", "e2", "e4"]
        assert ids(unit, subject="credit@3") == ["e2"]
        assert ids(unit, subject="credit", types=["a"], after=1) == []

    def test_what_is_read_back_is_what_was_hashed(self, unit):
        """Times of other zones, tuples and non-finite numbers are recorded as they will be read."""
        zone = timezone(timedelta(hours=2))
        event = Event(
            id="e1",
            type="a",
            subject="credit@1",
            time=EPOCH.astimezone(zone),
            actor="Zoë",
            data={"pair": (1, 2.5), "nan": float("nan"), "when": EPOCH, "text": "ü", "deep": {"b": None, "a": [True]}},
        )
        unit.write(lambda tx: tx.append(event))
        (entry,) = entries(unit)
        assert entry.event.data["pair"] == [1, 2.5]
        assert entry.event.data["nan"] is None
        assert entry.event.time == EPOCH
        assert whole_to(entries(unit)) == 1

    def test_an_event_id_is_unique(self, unit):
        """An id that the ledger holds is refused and the unit undone, also within one unit."""
        unit.write(lambda tx: tx.append(happened("e1")))

        def again(tx):
            tx.start(call("c1"))
            tx.append(happened("e1"))

        with pytest.raises(AlreadyExists):
            unit.write(again)

        def twice(tx):
            tx.append(happened("e2"))
            tx.append(happened("e2"))

        with pytest.raises(AlreadyExists):
            unit.write(twice)
        assert ids(unit) == ["e1"]
        assert pending(unit) == []

    def test_gapless_under_concurrent_writers(self, unit):
        """Many threads append, some of their units fail; what stands is gapless and chained."""

        def writer(name):
            for number in range(10):

                def work(tx, number=number):
                    tx.append(happened(f"{name}-{number}"))
                    if number % 3 == 2:
                        raise InterruptedError

                try:
                    unit.write(work)
                except InterruptedError:
                    continue

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(writer, range(8)))
        assert whole_to(entries(unit)) == 8 * 7


class TestOnce:
    def test_the_second_time_gives_back_what_the_first_stored(self, unit):
        """A key that was committed keeps its result, and its work does not run again."""
        runs = []

        def work(tx):
            runs.append(1)
            tx.append(happened(f"e{len(runs)}"))
            return {"n": len(runs), "pair": (1, 2)}

        first = unit.write_once(KEY, work)
        assert first == {"n": 1, "pair": [1, 2]}
        assert unit.write_once(KEY, work) == first
        assert ids(unit) == ["e1"]
        other = StepKey(workflow_id="w", step="refund")
        assert unit.write_once(other, work)["n"] == 2

    def test_a_failed_attempt_leaves_the_key_free(self, unit):
        """Key, result and change are one transaction: rolled back together."""

        def fails(tx):
            tx.append(happened("e1"))
            raise InvalidInput("no")

        with pytest.raises(InvalidInput):
            unit.write_once(KEY, fails)
        assert unit.write_once(KEY, lambda _: {"ok": True}) == {"ok": True}
        assert ids(unit) == []

    def test_once_under_concurrency(self, unit):
        """Of many threads with one key one changes the state, and all get its result."""
        gate = threading.Barrier(8)

        def work(name):
            def act(tx):
                tx.append(happened(f"by-{name}"))
                return {"by": name}

            gate.wait(10)
            return unit.write_once(KEY, act)["by"]

        with ThreadPoolExecutor(8) as pool:
            answers = set(pool.map(work, range(8)))
        assert len(answers) == 1
        assert ids(unit) == [f"by-{answers.pop()}"]


class TestOutbox:
    def test_oldest_first_once_by_id_and_forgotten(self, unit):
        """Calls wait in order, one per id, until they are marked; marking an unknown one is no error."""
        for name in ("c1", "c2", "c1", "c3"):
            unit.write(lambda tx, name=name: tx.start(call(name)))
        assert pending(unit) == ["c1", "c2", "c3"]
        assert unit.read(lambda tx: tx.store(Outbox).pending(1)) == (call("c1"),)
        unit.write(lambda tx: tx.store(Outbox).mark_started("c1"))
        unit.write(lambda tx: tx.store(Outbox).mark_started("c9"))
        assert pending(unit) == ["c2", "c3"]
        assert unit.read(lambda tx: tx.store(Outbox).depth()) == 2
        unit.write(lambda tx: tx.start(call("c1")))
        assert pending(unit) == ["c2", "c3", "c1"]


class TestLeases:
    def test_one_holder_at_a_time_and_a_higher_epoch_for_the_next(self, unit):
        """A held lease is refused to others; an expired one passes on with a higher epoch."""
        first = acquire(unit, "a", EPOCH)
        assert (first.epoch, first.expires) == (1, EPOCH + 10 * SECOND)
        assert acquire(unit, "b", EPOCH + 9 * SECOND) is None
        assert acquire(unit, "a", EPOCH + 5 * SECOND).epoch == 1
        assert acquire(unit, "b", EPOCH + 14 * SECOND) is None
        assert acquire(unit, "b", EPOCH + 15 * SECOND).epoch == 2
        assert acquire(unit, "a", EPOCH + 16 * SECOND) is None
        assert unit.read(lambda tx: tx.store(Leases).current("hub")).holder == "b"

    def test_an_expired_lease_nobody_took_keeps_its_epoch(self, unit):
        """The same holder renews after a pause when nobody else acted meanwhile."""
        acquire(unit, "a", EPOCH)
        assert acquire(unit, "a", EPOCH + 60 * SECOND).epoch == 1

    def test_a_returned_lease_is_free_at_once(self, unit):
        """After a release the next holder, even the same, gets a higher epoch; a lost one releases nothing."""
        first = acquire(unit, "a", EPOCH)
        unit.write(lambda tx: tx.store(Leases).release(first))
        assert unit.read(lambda tx: tx.store(Leases).current("hub")) is None
        second = acquire(unit, "a", EPOCH)
        assert second.epoch == 2
        unit.write(lambda tx: tx.store(Leases).release(first))
        assert acquire(unit, "b", EPOCH) is None

    def test_a_fenced_unit_writes_while_its_lease_is_newest(self, unit):
        """The holder writes; after a takeover it changes nothing, neither by write nor by write_once."""
        lease = acquire(unit, "a", EPOCH)
        fenced = unit.fenced(lease)
        fenced.write(lambda tx: tx.append(happened("e1")))
        acquire(unit, "b", EPOCH + 10 * SECOND)
        ran = []
        with pytest.raises(Fenced, match="epoch 1"):
            fenced.write(ran.append)
        with pytest.raises(Fenced):
            fenced.write_once(KEY, lambda tx: ran.append(tx) or {})
        assert ran == []
        assert ids(fenced) == ["e1"]
        assert unit.write_once(KEY, lambda _: {"free": True}) == {"free": True}

    def test_leases_of_other_names_do_not_fence(self, unit):
        """A takeover of one name leaves the holders of others alone."""
        lease = acquire(unit, "a", EPOCH)
        acquire(unit, "b", EPOCH, name="shipper")
        unit.fenced(lease).write(lambda tx: tx.append(happened("e1")))
        assert ids(unit) == ["e1"]

    def test_a_released_lease_fences_its_former_holder(self, unit):
        """Who gave its lease back changes nothing under it."""
        lease = acquire(unit, "a", EPOCH)
        unit.write(lambda tx: tx.store(Leases).release(lease))
        with pytest.raises(Fenced, match="no process holds the lease"):
            unit.fenced(lease).write(lambda tx: tx.append(happened("e1")))

    def test_takeovers_race_with_writers(self, unit):
        """However takeovers and writes interleave, no epoch writes after a higher one did."""
        now = threading.local()

        def act(name):
            now.seconds = 0
            for number in range(8):
                moment = EPOCH + timedelta(seconds=20 * (number * 4 + name))
                lease = acquire(unit, f"h{name}", moment)
                if lease is None:
                    continue
                data = {"epoch": lease.epoch}
                try:
                    unit.fenced(lease).write(
                        lambda tx, number=number, data=data: tx.append(happened(f"{name}-{number}", data=data))
                    )
                except Fenced:
                    continue

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(act, range(4)))
        epochs = [entry.event.data["epoch"] for entry in entries(unit)]
        assert epochs
        assert epochs == sorted(epochs)


WRITER = """
import random, sys
from mendel.adapters.sql import SqlUnitOfWork, open_engine, prepare_schema
from mendel.durable import Event, StepKey
from mendel.values import EPOCH

path, name = sys.argv[1:]
engine = open_engine(path)
prepare_schema(engine)
unit = SqlUnitOfWork(engine, {}, rng=random.Random(name))
for number in range(40):
    event = Event(id=f"{name}-{number}", type="a", subject="s", time=EPOCH, actor=name, data={})
    unit.write(lambda tx: tx.append(event))
    shared = Event(id=f"shared-{number}", type="once", subject="s", time=EPOCH, actor=name, data={})
    unit.write_once(StepKey(workflow_id="w", step=str(number)), lambda tx: tx.append(shared) or {"by": name})
engine.dispose()
"""


def test_two_processes_share_one_sqlite_file(tmp_path):
    """Two processes create the schema and write at once: the ledger is gapless, and what is once is once."""
    path = tmp_path / "mendel.db"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, path, name]) for name in ("a", "b")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    engine = open_engine(path)
    unit = SqlUnitOfWork(engine, {}, rng=random.Random(0))
    assert whole_to(entries(unit)) == 3 * 40
    assert len(entries(unit, types=["once"])) == 40
    engine.dispose()


def test_a_unit_may_lose_many_times_in_a_row(postgres):
    """Under PostgreSQL a unit that another writer refuses twelve times is run a thirteenth time, and ends."""
    engine = emptied_postgres(postgres)
    unit, rival = (SqlUnitOfWork(engine, {}, rng=random.Random(seed)) for seed in (0, 1))
    runs = []

    def work(tx):
        runs.append(tx.store(Ledger).head())
        if len(runs) <= 12:
            pool.submit(rival.write, lambda other: other.append(happened(f"rival-{len(runs)}"))).result(10)
        tx.append(happened("patient"))

    with ThreadPoolExecutor(1) as pool:
        unit.write(work)
    assert len(runs) == 13
    assert [entry.event.id for entry in entries(unit)][-1] == "patient"
    assert whole_to(entries(unit)) == 13
    engine.dispose()


def test_a_busy_unit_is_run_again_whole(tmp_path):
    """A unit that meets another writer is run again from its start, and in the end is StoreUnavailable."""
    engine = open_engine(tmp_path / "mendel.db", busy_timeout=timedelta(milliseconds=20))
    prepare_schema(engine)
    patient = RetryPolicy(attempts=50, base=timedelta(milliseconds=20), cap=timedelta(milliseconds=20))
    hasty = RetryPolicy(attempts=2, base=timedelta(milliseconds=1))
    blocker = SqlUnitOfWork(engine, {}, rng=random.Random(0))
    held, let_go = threading.Event(), threading.Event()

    def block(tx):
        tx.append(happened("blocker"))
        held.set()
        assert let_go.wait(10)

    with ThreadPoolExecutor(2) as pool:
        blocking = pool.submit(blocker.write, block)
        assert held.wait(10)
        with pytest.raises(StoreUnavailable, match="locked"):
            SqlUnitOfWork(engine, {}, rng=random.Random(1), retries=hasty).write(lambda _: None)
        waiting = SqlUnitOfWork(engine, {}, rng=random.Random(2), retries=patient)
        later = pool.submit(waiting.write, lambda tx: tx.append(happened("later")))
        let_go.set()
        blocking.result(10)
        later.result(10)
    assert ids(blocker) == ["blocker", "later"]
    engine.dispose()
