"""The contract of Views, over memory, SQLite and PostgreSQL; and how much they ask of a database."""

from __future__ import annotations

import random
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import event

from mendel.adapters.memory import MemoryUnitOfWork
from mendel.adapters.memory import all_stores as memory_stores
from mendel.adapters.sql import SqlUnitOfWork
from mendel.adapters.sql import all_stores as sql_stores
from mendel.errors import IncidentNotFound, ModelNotFound
from mendel.healing import Evidence, Healing, RunState, Signal, SignalKind, load_playbooks
from mendel.registry import Approval, Governance, Registry, RegistryStore, Snapshot, VersionRecord
from mendel.values import (
    Digest,
    Health,
    ModelConvergence,
    ModelName,
    ServerReport,
    Severity,
    Stage,
    VersionCounters,
    VersionRef,
    VersionUuid,
    Window,
    from_json,
    to_json,
)
from mendel.views import FleetView, Views
from support.databases import emptied_postgres, new_sqlite

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CREDIT, DIGITS, IDLE = ModelName("credit"), ModelName("digits"), ModelName("idle")
SIGNED = Governance(policy_compliant=Approval(by="ann", at=NOW), bias_check_passed=Approval(by="ann", at=NOW))


class House:
    """A registry and healing over one store, with short ways to fill it."""

    def __init__(self, unit, engine=None):
        self.unit, self.engine, self.now = unit, engine, NOW - 30 * MINUTE
        ids, self._numbers, self._reports = count(1), count(1), count(1)
        new_id = lambda: f"id-{next(ids)}"  # noqa: E731 - one counter for all
        self.registry = Registry(unit, None, lambda: self.now, new_id)
        self.healing = Healing(
            unit, self.registry, playbooks=load_playbooks(), training=None, new_id=lambda: f"h-{new_id()}"
        )

    def version(self, model, number, *, promote=False):
        place = next(self._numbers)
        record = VersionRecord(
            ref=VersionRef(model, number),
            uuid=VersionUuid(f"m-{place:032x}"),
            run_id=None,
            stage=Stage.SANDBOX,
            flavor="sklearn",
            task="classification",
            artifact_digest=Digest(f"sha256:{place:064x}"),
            registered_at=self.now,
            idempotency_key=str(place),
            governance=SIGNED,
        )
        self.unit.write(lambda tx: tx.store(RegistryStore).add_version(record))
        if promote:
            self.registry.lifecycle.promote(record.ref, by="ann", reason="better")
        return record.ref

    def report(self, ref, *, requests, errors=0, at=NOW, server="s1"):
        """What a server that serves *ref* reports at *at*, its counters since it started."""
        generation = self.registry.lifecycle.deployment(ref.model).generation
        before, self.now = self.now, at
        self.registry.performance.record_server_report(
            ServerReport(
                server=server,
                epoch="e1",
                seq=next(self._reports),
                at=at,
                revision=1,
                ready=True,
                spool={},
                convergence=(
                    ModelConvergence(
                        model=ref.model,
                        generation_desired=generation,
                        generation_serving=generation,
                        version_serving=ref.number,
                    ),
                ),
                counters=(
                    VersionCounters(model=ref.model, version=ref.number, requests=requests, model_errors=errors),
                ),
            )
        )
        self.now = before

    def fault(self, ref):
        return self.healing.notice(
            [
                Signal(
                    kind=SignalKind.FAULTS,
                    ref=ref,
                    severity=Severity.HIGH,
                    at=self.now,
                    reasons=("High error rate: 12.00%",),
                    evidence=Evidence(policy_hash="h", readings={}),
                )
            ],
            self.now,
        )

    def view(self, ask):
        return self.unit.read(lambda tx: ask(tx.store(Views)))

    @contextmanager
    def counting(self):
        """The statements that the database is asked, beside those that open a transaction."""
        asked = []

        def on_statement(connection, cursor, statement, *more):
            if not statement.startswith(("PRAGMA", "BEGIN")):
                asked.append(statement)

        event.listen(self.engine, "before_cursor_execute", on_statement)
        try:
            yield asked
        finally:
            event.remove(self.engine, "before_cursor_execute", on_statement)


@contextmanager
def sql_house(url):
    engine = new_sqlite(url) if isinstance(url, Path) else emptied_postgres(url)
    yield House(SqlUnitOfWork(engine, sql_stores(), rng=random.Random(0)), engine)
    engine.dispose()


def _url(request, tmp_path):
    return request.getfixturevalue("postgres") if request.param == "postgres" else tmp_path / "mendel.db"


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def house(request, tmp_path):
    if request.param == "memory":
        yield House(MemoryUnitOfWork(memory_stores()))
        return
    with sql_house(_url(request, tmp_path)) as made:
        yield made


@pytest.fixture(params=["sqlite", "postgres"])
def counted_house(request, tmp_path):
    with sql_house(_url(request, tmp_path)) as made:
        yield made


class TestFleet:
    def test_without_models_it_is_empty(self, house):
        """No model: no row, and every count is 0."""
        fleet = house.view(lambda views: views.fleet(NOW))
        assert (fleet.models, fleet.total_models, fleet.issues, fleet.pauses) == ((), 0, (), ())

    def test_a_policy_before_the_first_version_makes_no_row(self, house):
        """A policy may be set before its model has a version; the model is in no view until then."""
        house.registry.policies.set(CREDIT, {"healing": {"bake": "1h"}})
        assert house.view(lambda views: views.fleet(NOW)).models == ()
        with pytest.raises(ModelNotFound):
            house.view(lambda views: views.model(CREDIT, NOW))

    def test_every_model_is_counted_once(self, house):
        """The four words add up to all models; what is not healthy is an issue with its reasons."""
        house.report(house.version(CREDIT, 1, promote=True), requests=1000)
        house.version(IDLE, 1)
        fleet = house.view(lambda views: views.fleet(NOW))
        assert (fleet.total_models, fleet.healthy, fleet.unknown) == (2, 1, 1)
        assert fleet.total_models == fleet.healthy + fleet.degraded + fleet.critical + fleet.unknown
        (issue,) = fleet.issues
        assert (issue.model_id, issue.version, issue.reasons) == ("idle", None, ("No version is in production",))

    def test_a_row_says_what_the_registry_says(self, house):
        """Health, readings, deployment and policy of each row are those that the registry answers for the model."""
        for number in (1, 2):
            ref = house.version(CREDIT, number, promote=True)
            house.now += MINUTE
        house.report(ref, requests=100, errors=5, at=NOW - 11 * MINUTE)
        house.report(ref, requests=400, errors=8, at=NOW - MINUTE, server="s2")
        house.report(ref, requests=1000, errors=25)
        house.registry.performance.record_snapshot(
            Snapshot(
                ref=ref, window=Window(NOW - 2 * MINUTE, NOW - MINUTE), source="probe", num_requests=50, ood_rate=0.4
            )
        )
        house.registry.policies.set(CREDIT, {"rollback": {"window": "1h", "error_rate": 0.02}})
        house.report(house.version(DIGITS, 1, promote=True), requests=10, at=NOW - 5 * MINUTE, server="s3")
        house.version(IDLE, 1)
        fleet = house.view(lambda views: views.fleet(NOW))
        assert sorted(row.model for row in fleet.models) == [CREDIT, DIGITS, IDLE]
        for row in fleet.models:
            assert row.health == house.registry.performance.health(row.model, now=NOW)
            assert row.generation == house.registry.lifecycle.deployment(row.model).generation
            assert row.policy_hash == house.registry.policies.of(row.model).hash
            assert row.versions == len(house.registry.versions.of(row.model))
        shown = {row.model: row for row in fleet.models}
        assert shown[CREDIT].health.metrics.snapshot_count == 2
        assert shown[CREDIT].health.metrics.avg_ood_rate == pytest.approx(0.4)
        assert (shown[DIGITS].production, shown[DIGITS].health.health_status) == (1, Health.CRITICAL)
        assert str(shown[CREDIT].convergence) == "1 of 1 servers serve generation 2"
        assert str(shown[DIGITS].convergence) == "no server reports this model; s3: silent"

    def test_what_needs_somebody_comes_first(self, house):
        """A model with an incident stands before one without; nothing unknown is called healthy; pauses are shown."""
        house.version(CREDIT, 1, promote=True)
        house.version(DIGITS, 1, promote=True)
        ref = house.version(DIGITS, 2, promote=True)
        assert [row.model for row in house.view(lambda views: views.fleet(NOW)).models] == [CREDIT, DIGITS]
        house.fault(ref)
        house.healing.pause(by="ann", reason="night", now=NOW, model=CREDIT)
        fleet = house.view(lambda views: views.fleet(NOW))
        first, second = fleet.models
        assert (first.model, first.production, first.open_incidents, first.worst) == (DIGITS, 2, 1, Severity.HIGH)
        assert (second.production, second.health.health_status, second.open_incidents) == (1, Health.UNKNOWN, 0)
        assert str(first.convergence) == "no server reports this model"
        assert [pause.model for pause in fleet.pauses] == [CREDIT]

    def test_it_travels_as_json(self, house):
        """The fleet read back from its JSON is equal."""
        house.report(house.version(CREDIT, 1, promote=True), requests=1000)
        fleet = house.view(lambda views: views.fleet(NOW))
        assert from_json(to_json(fleet), FleetView) == fleet


class TestModel:
    def test_everything_about_it(self, house):
        """Versions, stretches in production and incidents come newest first, with deployment, policy and health."""
        refs = []
        for number in (1, 2):
            refs.append(house.version(CREDIT, number, promote=True))
            house.now += MINUTE
        house.version(DIGITS, 1, promote=True)
        house.fault(refs[1])
        house.report(refs[1], requests=100)
        page = house.view(lambda views: views.model(CREDIT, NOW))
        assert [record.ref for record in page.versions] == refs[::-1]
        assert page.versions == house.registry.versions.of(CREDIT)[::-1]
        assert page.history == house.registry.lifecycle.history(CREDIT)[::-1]
        assert page.deployment == house.registry.lifecycle.deployment(CREDIT)
        assert page.policy == house.registry.policies.of(CREDIT)
        assert page.row.policy_hash == page.policy.hash
        assert [one.id for one in page.incidents] == ["INC-2026-1"]
        assert page.row == next(row for row in house.view(lambda views: views.fleet(NOW)).models if row.model == CREDIT)
        assert page.runs == house.view(lambda views: views.runs(CREDIT))

    def test_an_unknown_one_is_refused(self, house):
        """A model without versions is not there."""
        with pytest.raises(ModelNotFound):
            house.view(lambda views: views.model(CREDIT, NOW))


class TestIncidents:
    def test_one_in_full(self, house):
        """An incident comes with its decisions and runs; a run that waits for a person is found by asking for those."""
        house.version(CREDIT, 1, promote=True)
        ref = house.version(CREDIT, 2, promote=True)
        house.registry.policies.set(CREDIT, {"healing": {"autonomy": {"rollback": "propose"}}})
        house.fault(ref)
        page = house.view(lambda views: views.incident("INC-2026-1"))
        assert page.incident.ref == ref
        assert [record.verdict for record in page.decisions] == ["propose"]
        assert [run.id for run in page.runs] == ["INC-2026-1-1"]
        assert house.view(lambda views: views.runs(waiting=True)) == page.runs
        assert house.view(lambda views: views.incidents(DIGITS)) == ()
        assert house.view(lambda views: views.incidents(CREDIT)) == (page.incident,)

    def test_an_unknown_one_is_refused(self, house):
        """An incident that was never opened is not there."""
        with pytest.raises(IncidentNotFound):
            house.view(lambda views: views.incident("INC-2026-9"))


class TestRuns:
    def test_oldest_first_and_bounded(self, house):
        """The newest runs, oldest first; those that are over do not wait."""
        ref = house.version(CREDIT, 1, promote=True)
        house.version(CREDIT, 2, promote=True)
        ids = []
        for _ in range(3):
            run = house.healing.start(CREDIT, "model_rollback", by="ann", reason="test", now=house.now)
            ids.append(run.id)
            house.healing.cancel(run.id, by="ann", reason="test", now=house.now)
        assert [run.id for run in house.view(lambda views: views.runs())] == ids
        assert [run.id for run in house.view(lambda views: views.runs(CREDIT, limit=2))] == ids[1:]
        assert {run.state for run in house.view(lambda views: views.runs())} == {RunState.DECLINED}
        assert house.view(lambda views: views.runs(waiting=True)) == ()
        assert house.view(lambda views: views.runs(ref.model, waiting=True)) == ()


class TestHistory:
    def test_it_is_the_ledger(self, house):
        """The events of a model and its versions, in order, above a sequence, of the types asked for."""
        house.version(CREDIT, 1, promote=True)
        house.version(DIGITS, 1, promote=True)
        entries = house.view(lambda views: views.history("credit"))
        assert [entry.sequence for entry in entries] == sorted(entry.sequence for entry in entries)
        assert {entry.event.subject for entry in entries} == {"credit@1"}
        (promoted,) = house.view(lambda views: views.history("credit", types=["model.promoted"]))
        assert promoted in entries
        assert house.view(lambda views: views.history("credit", after=entries[-1].sequence)) == ()
        assert len(house.view(lambda views: views.history(limit=3))) == 3


class TestStatements:
    def test_no_view_asks_more_of_many_models(self, counted_house):
        """Each view asks a fixed number of statements, of 2 models with 2 versions as of 6 with up to 5."""
        asking = {
            "fleet": (2, lambda views: views.fleet(NOW)),
            "model": (3, lambda views: views.model(ModelName("m0"), NOW)),
            "incidents": (1, lambda views: views.incidents()),
            "incident": (1, lambda views: views.incident("INC-2026-1")),
            "runs": (1, lambda views: views.runs()),
            "history": (1, lambda views: views.history()),
        }
        for models, versions in ((2, 2), (6, 3)):
            for place in range(models):
                _grow(counted_house, ModelName(f"m{place}"), versions)
            for name, (statements, ask) in asking.items():
                with counted_house.counting() as asked:
                    counted_house.view(ask)
                assert len(asked) == statements, name

    def test_many_windows_are_asked_in_parts(self, counted_house, monkeypatch):
        """What is more than a statement can hold is asked in several, and the answer is the same."""
        for place in range(4):
            _grow(counted_house, ModelName(f"m{place}"), 1)
        whole = counted_house.view(lambda views: views.fleet(NOW))
        monkeypatch.setattr("mendel.adapters.sql.views._MOST_WINDOWS", 3)
        assert counted_house.view(lambda views: views.fleet(NOW)) == whole
        assert {row.health.metrics.snapshot_count for row in whole.models} == {1}


def _grow(house, model, versions):
    known = len(house.registry.versions.of(model)) if model in house.registry.versions.models() else 0
    for number in range(known + 1, known + versions + 1):
        ref = house.version(model, number, promote=True)
    house.report(ref, requests=100 * (known + 1))
    house.fault(ref)
