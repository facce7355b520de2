"""The contract of HealingStore, over memory and SQLite."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mendel.adapters.memory import MemoryUnitOfWork
from mendel.adapters.memory import all_stores as memory_stores
from mendel.adapters.sql import SqlUnitOfWork
from mendel.adapters.sql import all_stores as sql_stores
from mendel.adapters.sql.healing import incidents as incidents_table
from mendel.adapters.sql.healing import runs as runs_table
from mendel.errors import AlreadyExists, Conflict, IncidentNotFound, RunNotFound
from mendel.healing import (
    LOOK_SCHEMA,
    Cause,
    DecisionRecord,
    Evidence,
    HealingStore,
    Incident,
    IncidentContext,
    IncidentStatus,
    Look,
    LookKind,
    LookResult,
    Pause,
    PlaybookRun,
    Rule,
    RunState,
    SignalKind,
    StepOutcome,
    StepState,
    TimelineEntry,
    Verdict,
    pack_look,
    shipped_playbooks,
)
from mendel.values import ModelName, Severity, VersionRef, to_json
from support.databases import new_sqlite

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
CREDIT, DIGITS = ModelName("credit"), ModelName("digits")
FORMER_RUN = (
    '{"approved_by":null,"approved_step":null,"created_at":"2026-03-01T12:00:00Z","document":{"autonomy":'
    '"retrain","harmless":false,"name":"mine","starts_under":"act","steps":[{"action":"watch","name":"wat'
    'ch","requires":null,"retries":5,"timeout":"PT90S","when":{"verdict":["pass"]}}],"title":"Mine","urge'
    'nt":false},"facts":{"verdict":"pass"},"finished_at":null,"held_at":0,"held_for":null,"id":"RUN-2026-'
    '1","incident":null,"part":1,"playbook":"mine","policy":{"healing":{}},"policy_hash":"h","reason":"ol'
    'd","ref":{"model":"credit","number":2},"started_at":null,"state":"held","steps":[]}'
)
"""A row of ``playbook_runs`` as the version before wrote it, its playbook a plain mapping."""


@pytest.fixture(params=["memory", "sqlite"])
def unit(request, tmp_path):
    if request.param == "memory":
        yield MemoryUnitOfWork(memory_stores())
        return
    engine = new_sqlite(tmp_path / "mendel.db")
    yield SqlUnitOfWork(engine, sql_stores(), rng=random.Random(0))
    engine.dispose()


@pytest.fixture
def write(unit):
    return lambda work: unit.write(lambda tx: work(tx.store(HealingStore)))


@pytest.fixture
def read(unit):
    return lambda work: unit.read(lambda tx: work(tx.store(HealingStore)))


def incident(number=1, *, version=2, cause=Cause.FAULTS, model=CREDIT, status=IncidentStatus.OPEN, server=None):
    return Incident(
        id=f"INC-2026-{number}",
        ref=VersionRef(model, version),
        cause=cause,
        severity=Severity.HIGH,
        title="Model performance degradation detected: credit",
        description="High error rate: 8.00%",
        context=IncidentContext(
            model_version="2",
            stage="production",
            reasons=("High error rate: 8.00%",),
            avg_error_rate=0.08,
            policy_hash="h",
        ),
        opened_at=NOW,
        last_seen=NOW,
        kinds=(SignalKind.FAULTS,),
        evidence=(Evidence(policy_hash="h", digests=("sha256:d",), readings={"value": 0.08, "names": ["a"]}),),
        timeline=(TimelineEntry(at=NOW, kind="opened", text="faults"),),
        status=status,
        server=server,
    )


def run(number=1, *, state=RunState.RUNNING, model=CREDIT, of="INC-2026-1", created=NOW):
    step = StepOutcome(name="1-roll_back", action="roll_back", state=StepState.DONE, text="", facts={"to": 1}, at=NOW)
    return PlaybookRun(
        id=f"{of}-{number}",
        incident=of,
        ref=VersionRef(model, 2),
        playbook="model_rollback",
        document=shipped_playbooks()["model_rollback"],
        policy={"healing": {"cooldown": "30m"}},
        policy_hash="h",
        state=state,
        created_at=created,
        reason="decided",
        steps=(step,),
        facts={"to": 1},
        started_at=NOW,
    )


def look(number=1, *, model=CREDIT, kind=LookKind.COUNTERS, at=NOW):
    found = LookResult(model=model, ref=VersionRef(model, 2), at=at)
    return Look(id=f"l{number}", model=model, kind=kind, at=at, until=at, policy_hash="h", found=found)


def decision(number=1, *, of="INC-2026-1"):
    return DecisionRecord(
        id=f"d{number}",
        incident=of,
        at=NOW,
        verdict=Verdict.WAIT,
        rule=Rule.COOLDOWN,
        reasons=("cooldown",),
        policy_hash="h",
        until=NOW + timedelta(minutes=30),
        evidence=("sha256:d",),
    )


def test_numbers_count_per_series(write, read):
    """Each series counts from 1 on its own, and a number taken by a failed transaction is given again."""
    assert [write(lambda s: s.next_number("INC-2026")) for _ in range(2)] == [1, 2]
    assert write(lambda s: s.next_number("INC-2027")) == 1

    def failing(store):
        store.next_number("INC-2026")
        raise KeyError

    with pytest.raises(KeyError):
        write(failing)
    assert write(lambda s: s.next_number("INC-2026")) == 3


def test_everything_comes_back_as_it_was_put(write, read):
    """Incidents, decisions, runs and pauses come back equal, times to the microsecond."""
    pause = Pause(model=CREDIT, by="ann", at=NOW, reason="night")

    def put(store):
        store.add_incident(incident())
        store.add_decision(decision())
        store.put_run(run())
        store.put_pause(pause)

    write(put)
    assert read(lambda s: s.incident("INC-2026-1")) == incident()
    assert read(lambda s: s.decisions("INC-2026-1")) == (decision(),)
    assert read(lambda s: s.run("INC-2026-1-1")) == run()
    assert read(lambda s: s.pauses()) == (pause,)


def test_one_open_incident_of_a_version_and_cause(write, read):
    """A second unresolved incident of one version and cause is refused; of another, or after the first, it is not."""
    write(lambda s: s.add_incident(incident()))
    with pytest.raises(AlreadyExists, match="INC-2026-1"):
        write(lambda s: s.add_incident(incident(2)))
    write(lambda s: s.add_incident(incident(3, version=3)))
    write(lambda s: s.add_incident(incident(4, cause=Cause.DRIFT)))
    write(lambda s: s.put_incident(incident(1, status=IncidentStatus.RESOLVED)))
    write(lambda s: s.add_incident(incident(5)))
    with pytest.raises(AlreadyExists):
        write(lambda s: s.put_incident(incident(1)))
    assert [one.id for one in read(lambda s: s.open_incidents())] == ["INC-2026-3", "INC-2026-4", "INC-2026-5"]


def test_one_open_incident_of_a_server_and_cause(write, read):
    """Two servers may have an open incident about one version and cause, each of them one."""
    write(lambda s: s.add_incident(incident(1, cause=Cause.SERVERS, server="s1")))
    write(lambda s: s.add_incident(incident(2, cause=Cause.SERVERS, server="s2")))
    write(lambda s: s.add_incident(incident(3, cause=Cause.SERVERS)))
    with pytest.raises(AlreadyExists, match="INC-2026-2"):
        write(lambda s: s.add_incident(incident(4, cause=Cause.SERVERS, server="s2")))
    assert [one.server for one in read(lambda s: s.open_incidents())] == ["s1", "s2", None]


def test_an_id_is_given_once(write):
    """An incident's id cannot be taken twice."""
    write(lambda s: s.add_incident(incident(status=IncidentStatus.CLOSED)))
    with pytest.raises(AlreadyExists, match="INC-2026-1"):
        write(lambda s: s.add_incident(incident()))


def test_incidents_by_model_newest_first(write, read):
    """Listings are of one model or of all, newest first, bounded."""
    for number, model in ((1, CREDIT), (2, DIGITS), (3, CREDIT)):
        write(lambda s, n=number, m=model: s.add_incident(incident(n, model=m, version=n)))
    assert [one.id for one in read(lambda s: s.incidents())] == ["INC-2026-3", "INC-2026-2", "INC-2026-1"]
    assert [one.id for one in read(lambda s: s.incidents(CREDIT, limit=1))] == ["INC-2026-3"]
    assert [one.id for one in read(lambda s: s.open_incidents(DIGITS))] == ["INC-2026-2"]


def test_what_is_not_there_is_named(write, read):
    """Reading or replacing what does not exist says so."""
    with pytest.raises(IncidentNotFound, match="INC-9"):
        read(lambda s: s.incident("INC-9"))
    with pytest.raises(IncidentNotFound):
        write(lambda s: s.put_incident(incident()))
    with pytest.raises(RunNotFound, match="RUN-9"):
        read(lambda s: s.run("RUN-9"))


def test_one_running_run_of_a_model(write, read):
    """A second running run of a model is refused; once the first has ended, or for another model, it is not."""
    write(lambda s: s.put_run(run(1)))
    write(lambda s: s.put_run(run(1)))
    with pytest.raises(AlreadyExists, match="only one active run at a time"):
        write(lambda s: s.put_run(run(2)))
    write(lambda s: s.put_run(run(2, state=RunState.PROPOSED)))
    write(lambda s: s.put_run(run(3, model=DIGITS, of="INC-2026-2")))
    write(lambda s: s.put_run(run(1, state=RunState.SUCCEEDED)))
    write(lambda s: s.put_run(run(2)))
    assert [one.id for one in read(lambda s: s.runs(CREDIT))] == ["INC-2026-1-1", "INC-2026-1-2"]


def test_runs_by_incident_and_time(write, read):
    """Runs are found by incident, and by time with those that are not over."""
    old = NOW - timedelta(days=3)
    write(lambda s: s.put_run(run(1, state=RunState.SUCCEEDED, created=old)))
    write(lambda s: s.put_run(run(2, state=RunState.HELD, created=old)))
    write(lambda s: s.put_run(run(1, state=RunState.FAILED, of="INC-2026-2")))
    ids = [one.id for one in read(lambda s: s.runs(CREDIT, since=NOW - timedelta(days=1)))]
    assert ids == ["INC-2026-1-2", "INC-2026-2-1"]
    assert [one.id for one in read(lambda s: s.runs(incident="INC-2026-2"))] == ["INC-2026-2-1"]
    assert [one.id for one in read(lambda s: s.runs(limit=1))] == ["INC-2026-2-1"]


def test_pauses_are_lifted_once(write, read):
    """A pause for all and one for a model are two; lifting says whether there was one."""
    for model in (DIGITS, None):
        write(lambda s, m=model: s.put_pause(Pause(model=m, by="ann", at=NOW, reason="a")))
        write(lambda s, m=model: s.put_pause(Pause(model=m, by="bob", at=NOW, reason="b")))
    assert [(pause.model, pause.by) for pause in read(lambda s: s.pauses())] == [(None, "bob"), (DIGITS, "bob")]
    assert write(lambda s: s.lift_pause(None)) is True
    assert write(lambda s: s.lift_pause(None)) is False
    assert [pause.model for pause in read(lambda s: s.pauses())] == [DIGITS]


def test_the_database_itself_holds_the_invariants(tmp_path):
    """Past the store's own checks, SQLite refuses a second open incident and a second running run."""
    engine = new_sqlite(tmp_path / "mendel.db")
    unit = SqlUnitOfWork(engine, sql_stores(), rng=random.Random(0))
    unit.write(lambda tx: tx.store(HealingStore).add_incident(incident()))
    unit.write(lambda tx: tx.store(HealingStore).put_run(run()))
    rows = [
        (incidents_table, replace(incident(2)), {"version": 2, "cause": "faults", "status": "investigating"}),
        (runs_table, run(2), {"incident": "INC-2026-1", "state": "running", "created_at": 0}),
    ]
    for table, noun, columns in rows:
        row = {"id": noun.id, "model": "credit", "body": "{}", **columns}
        with pytest.raises(Conflict):
            unit.write(lambda tx, t=table, r=row: tx._connection.execute(t.insert(), r))
    engine.dispose()


def test_a_run_of_the_version_before_is_read(tmp_path):
    """A row that was written when a run kept its playbook as a mapping is read, and written back unchanged."""
    engine = new_sqlite(tmp_path / "mendel.db")
    row = {"id": "RUN-2026-1", "incident": None, "model": "credit", "state": "held", "created_at": 0}
    with engine.begin() as connection:
        connection.execute(runs_table.insert(), {**row, "body": FORMER_RUN})
    unit = SqlUnitOfWork(engine, sql_stores(), rng=random.Random(0))
    found = unit.read(lambda tx: tx.store(HealingStore).run("RUN-2026-1"))
    assert (found.document.name, found.document.autonomy, found.document.urgent) == ("mine", "retrain", False)
    assert found.document.steps[0].timeout == timedelta(seconds=90)
    assert to_json(found).decode() == FORMER_RUN
    engine.dispose()


def test_looks_are_given_in_pages_as_they_were_added(write, read):
    """Looks of a model that held since a time are read behind the last one that was read."""
    for number in range(1, 5):
        write(lambda store, n=number: store.add_look(look(n, at=NOW + timedelta(hours=n))))
    write(lambda store: store.add_look(look(5, model=DIGITS)))
    write(lambda store: store.extend_look("l1", NOW + timedelta(hours=9)))
    first = read(lambda store: store.looks(CREDIT, since=NOW + timedelta(hours=3), limit=2))
    assert [one.id for one in first] == ["l1", "l3"]
    assert first[0].until == NOW + timedelta(hours=9)
    then = read(lambda store: store.looks(CREDIT, since=NOW + timedelta(hours=3), after="l3", limit=2))
    assert then == (look(4, at=NOW + timedelta(hours=4)),)
    assert len(read(lambda store: store.looks(since=NOW, limit=9))) == 5


def test_the_last_look_is_of_its_model_and_kind(write, read):
    """The look that was added last is found by model and kind, without those about incidents."""
    write(lambda store: store.add_look(look(1)))
    write(lambda store: store.add_look(look(2, kind=LookKind.LOG)))
    assert read(lambda store: store.last_look(CREDIT, LookKind.COUNTERS)) == look(1)
    assert read(lambda store: store.last_look(CREDIT, LookKind.DECISION, incident="INC-2026-1")) is None
    assert read(lambda store: store.last_look(DIGITS, LookKind.COUNTERS)) is None


def test_a_look_of_another_schema_is_given_without_inputs(write, read):
    """What another version of Mendel stored does not end the reading of looks, and says that it cannot be decided."""
    write(lambda store: store.add_look(replace(look(1), schema=LOOK_SCHEMA + 1)))
    write(lambda store: store.add_look(look(2, at=NOW + timedelta(hours=1))))
    first, second = read(lambda store: store.looks(since=NOW, limit=9))
    assert (first.id, first.model, first.kind, first.at) == ("l1", CREDIT, LookKind.COUNTERS, NOW)
    assert first.schema != LOOK_SCHEMA
    assert second == look(2, at=NOW + timedelta(hours=1))
    assert not first.same_as(second)


def test_looks_are_counted_by_day_and_pruned(write, read):
    """Number and bytes of looks are known by model and day; those that ended before a time are deleted."""
    for number in range(1, 4):
        write(lambda store, n=number: store.add_look(look(n, at=NOW + timedelta(days=n // 2))))
    volumes = read(lambda store: store.look_volumes(CREDIT))
    assert [(one.day.isoformat(), one.looks) for one in volumes] == [("2026-03-01", 1), ("2026-03-02", 2)]
    assert volumes[0].size_bytes == len(pack_look(look(1)))
    assert read(lambda store: store.look_volumes(DIGITS)) == ()
    assert write(lambda store: store.prune_looks(NOW + timedelta(hours=1))) == 1
    assert [one.id for one in read(lambda store: store.looks(since=NOW, limit=9))] == ["l2", "l3"]
