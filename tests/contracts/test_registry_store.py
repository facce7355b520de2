"""The contract of RegistryStore, over memory, SQLite and PostgreSQL."""

from __future__ import annotations

import itertools
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from mendel.adapters.memory import MemoryUnitOfWork
from mendel.adapters.memory.registry import STORES as MEMORY_STORES
from mendel.adapters.sql import SqlUnitOfWork
from mendel.adapters.sql.registry import STORES as SQL_STORES
from mendel.errors import AlreadyExists, Conflict, GenerationConflict
from mendel.registry import (
    ApiKey,
    Approval,
    Expectations,
    GateRecord,
    Governance,
    Improvement,
    NumberedPeriod,
    PendingRegistration,
    PolicyDocument,
    ProductionPeriod,
    ProjectSource,
    Provenance,
    Registry,
    RegistryStore,
    RowKind,
    Snapshot,
    VersionImage,
    VersionRecord,
)
from mendel.values import (
    EPOCH,
    ColumnSpec,
    ColumnType,
    Deployment,
    Digest,
    ModelConvergence,
    ModelName,
    Route,
    ServerReport,
    Signature,
    Stage,
    VersionCounters,
    VersionRef,
    VersionUuid,
    Window,
)
from support.databases import emptied_postgres, new_sqlite

CREDIT = ModelName("credit")
SECOND = timedelta(seconds=1)


def at(seconds):
    return EPOCH + seconds * SECOND


def digest(number):
    return Digest(f"sha256:{number:064x}")


def version(number, *, model=CREDIT, stage=Stage.DEVELOPMENT, **changes):
    record = VersionRecord(
        ref=VersionRef(model, number),
        uuid=VersionUuid(f"m-{number:032x}"),
        run_id=None,
        stage=stage,
        flavor="sklearn",
        task="binary",
        artifact_digest=digest(number),
        registered_at=at(number),
        idempotency_key=f"key-{number}",
    )
    return replace(record, **changes)


def report(seq, *, server="s1", epoch="e1", second=None, counters=()):
    return ServerReport(
        server=server,
        epoch=epoch,
        seq=seq,
        at=at(2 * seq if second is None else second),
        revision=1,
        ready=True,
        counters=counters,
        spool={"bytes": 1},
    )


def counted(requests, *, number=1, errors=0):
    return VersionCounters(model=CREDIT, version=number, requests=requests, model_errors=errors)


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


class Rows:
    """The store, one transaction per call."""

    def __init__(self, unit):
        self._unit = unit

    def __getattr__(self, name):
        writes = name.startswith(("put_", "add_", "drop_", "replace_", "open_", "close_", "bump_", "prune_"))
        run = self._unit.write if writes else self._unit.read
        return lambda *args, **kwargs: run(lambda tx: getattr(tx.store(RegistryStore), name)(*args, **kwargs))


@pytest.fixture
def rows(unit):
    return Rows(unit)


class TestVersions:
    def test_a_whole_record_comes_back_equal(self, rows):
        """Every field of a version survives the store."""
        signature = Signature.of_columns((ColumnSpec(name="age", type=ColumnType.DOUBLE, required=False),))
        whole = version(
            1,
            run_id="r1",
            flavors=("python_function", "sklearn"),
            signature=signature,
            data_digest=digest(7),
            code_digest=digest(8),
            lock_digest=digest(9),
            release_tag="credit-v1.0.0-mlserver-762e7f2",
            image=VersionImage(reference="risk/credit:v1.0.0", digest=digest(11), release_tag="t"),
            project=ProjectSource(repository="/repo", classifier="credit", tag="t"),
            parent=VersionRef(CREDIT, 1),
            improvement=Improvement(
                baseline=VersionRef(CREDIT, 1), contributor="0x" + "a" * 40, delta_metrics={"f1": 0.03}
            ),
            training_fingerprint="f",
            reference_digest=digest(10),
            metrics={"f1": 0.9},
            metadata={"features": ["age"], "deep": {"n": 1.5, "none": None}},
            tags={"colour": "blue"},
            description="d",
            owner="o",
            team="t",
            framework="sklearn",
            provenance=Provenance(training_dataset_size=3, training_timestamp=at(5), training_duration=60 * SECOND),
            expectations=Expectations(latency_p95_ms=90.0),
            governance=Governance(policy_compliant=Approval(by="ann", at=at(6))),
        )
        rows.add_version(whole)
        assert rows.version(whole.ref) == whole
        assert rows.version_by_uuid(whole.uuid) == whole
        assert rows.version_by_key(CREDIT, "key-1") == whole
        assert rows.version_by_digest(whole.artifact_digest) == whole
        assert rows.versions_by_image(digest(11)) == (whole,)

    def test_what_is_not_there_is_none(self, rows):
        """Absent rows are None or empty, never an error."""
        assert rows.version(VersionRef(CREDIT, 1)) is None
        assert rows.version_by_uuid(VersionUuid("m-" + "0" * 32)) is None
        assert rows.version_by_key(CREDIT, "k") is None
        assert rows.version_by_digest(digest(1)) is None
        assert rows.versions(CREDIT) == rows.models() == rows.deployments() == rows.tenures(CREDIT) == ()
        assert rows.gate_records(VersionRef(CREDIT, 1)) == rows.policies(CREDIT) == rows.servers() == ()
        assert rows.deployment(CREDIT) is None
        assert rows.pending(CREDIT, "k") is None
        assert rows.revision() == 0

    def test_versions_of_an_image(self, rows):
        """An image has the versions recorded with it, of any model, in order; a version that moves on has left it."""
        loan = ModelName("a-loan")
        image = VersionImage(reference="risk:1", digest=digest(7))
        other = version(3, model=loan, uuid=VersionUuid("m-" + "f" * 32), image=image)
        for record in (version(10, image=image), version(2), version(4, image=image), other):
            rows.add_version(record)
        assert [r.ref for r in rows.versions_by_image(digest(7))] == [
            VersionRef(loan, 3),
            VersionRef(CREDIT, 4),
            VersionRef(CREDIT, 10),
        ]
        rows.replace_version(version(4, image=VersionImage(reference="risk:2", digest=digest(8))))
        rows.replace_version(version(2, image=image))
        assert [r.number for r in rows.versions_by_image(digest(7))] == [3, 2, 10]
        assert rows.versions_by_image(digest(9)) == ()

    def test_versions_ascend_and_models_are_sorted(self, rows):
        """Versions come by number, models by name, whatever the order of insertion."""
        loan = ModelName("a-loan")
        for record in (version(10), version(2), version(3, model=loan, uuid=VersionUuid("m-" + "f" * 32))):
            rows.add_version(record)
        assert [r.number for r in rows.versions(CREDIT)] == [2, 10]
        assert rows.models() == (loan, CREDIT)

    @pytest.mark.parametrize(
        "rival",
        [
            version(1, uuid=VersionUuid("m-" + "e" * 32), idempotency_key="other"),
            version(2, uuid=version(1).uuid),
            version(2, idempotency_key="key-1"),
        ],
        ids=["number", "uuid", "key"],
    )
    def test_number_uuid_and_key_are_taken_once(self, rows, rival):
        """A second version with the number, uuid or key of another is refused."""
        rows.add_version(version(1))
        with pytest.raises(AlreadyExists):
            rows.add_version(rival)
        assert len(rows.versions(CREDIT)) == 1

    def test_a_second_production_version_is_refused(self, rows):
        """Neither inserting nor replacing gives one model two production versions; another model may have its own."""
        rows.add_version(version(1, stage=Stage.PRODUCTION))
        rows.add_version(version(2, stage=Stage.SANDBOX))
        with pytest.raises(Conflict):
            rows.replace_version(version(2, stage=Stage.PRODUCTION))
        with pytest.raises(Conflict):
            rows.add_version(version(3, stage=Stage.PRODUCTION))
        other = ModelName("other")
        rows.add_version(version(1, model=other, stage=Stage.PRODUCTION, uuid=VersionUuid("m-" + "f" * 32)))
        assert rows.version(VersionRef(CREDIT, 2)).stage is Stage.SANDBOX

    def test_a_production_version_can_be_replaced_by_itself(self, rows):
        """Writing the production version anew is no second one."""
        rows.add_version(version(1, stage=Stage.PRODUCTION))
        rows.replace_version(version(1, stage=Stage.PRODUCTION, owner="ann"))
        assert rows.version(VersionRef(CREDIT, 1)).owner == "ann"


class TestPending:
    def test_pending_registrations_are_found_by_age(self, rows):
        """Registrations requested before a moment come oldest first; replaced ones once; dropped ones not."""
        for number in (3, 1, 2):
            rows.put_pending(
                PendingRegistration(
                    model=CREDIT,
                    idempotency_key=f"k{number}",
                    artifact_digest=digest(1),
                    data_digest=None,
                    requested_at=at(number),
                )
            )
        swept = replace(rows.pending(CREDIT, "k1"), swept=True)
        rows.put_pending(swept)
        rows.drop_pending(CREDIT, "k2")
        rows.drop_pending(CREDIT, "k2")
        assert rows.pending_before(at(3)) == (swept,)
        assert [p.idempotency_key for p in rows.pending_before(at(4))] == ["k1", "k3"]
        assert [p.idempotency_key for p in rows.all_pending(CREDIT)] == ["k1", "k3"]
        assert rows.all_pending(ModelName("nobody")) == ()


class TestDeployments:
    def test_generations_follow_by_one(self, rows):
        """A deployment is written only as the successor of what stands."""
        first = Deployment(model=CREDIT, generation=1, routes=(Route(version=1, share=1.0),))
        rows.put_deployment(first)
        for generation in (0, 1, 3):
            with pytest.raises(GenerationConflict) as refused:
                rows.put_deployment(replace(first, generation=generation))
            assert (refused.value.expected, refused.value.actual) == (generation - 1, 1)
        second = replace(first, generation=2, keep=(7,), shadow=8, fallback=9, restart_epoch=1)
        rows.put_deployment(second)
        assert rows.deployment(CREDIT) == second
        assert rows.deployments() == (second,)

    def test_the_first_generation_is_one(self, rows):
        """A deployment that does not begin at 1 is refused."""
        with pytest.raises(GenerationConflict):
            rows.put_deployment(Deployment(model=CREDIT, generation=2))

    def test_revisions_count(self, rows):
        """Each bump gives the next revision."""
        assert [rows.bump_revision() for _ in range(3)] == [1, 2, 3]
        assert rows.revision() == 3


class TestTenures:
    def test_one_tenure_is_open_at_a_time(self, rows):
        """A second open tenure of a model is refused; a closed one makes room."""
        rows.add_version(version(1))
        rows.add_version(version(2))
        one = ProductionPeriod(model=CREDIT, version=1, start=at(1), actor="ann", reason="r", start_event="e1")
        two = replace(one, version=2, start=at(1), start_event="e2")
        rows.open_tenure(one)
        with pytest.raises(Conflict):
            rows.open_tenure(two)
        rows.close_tenure(CREDIT, end=at(1), event="e2")
        rows.open_tenure(two)
        assert rows.tenures(CREDIT) == (replace(one, end=at(1), end_event="e2"), two)

    def test_closing_nothing_is_no_error(self, rows):
        """Closing where nothing is open changes nothing."""
        rows.close_tenure(CREDIT, end=at(1), event="e")
        assert rows.tenures(CREDIT) == ()


class TestRecords:
    def test_gate_records_keep_their_order(self, rows):
        """The newest gate record is the last added, whatever its time."""
        rows.add_version(version(1))
        ref = VersionRef(CREDIT, 1)
        records = tuple(
            GateRecord(report_digest=f"d{n}", passed=n == 1, verdict="pass", at=at(5 - n), body={"n": n})
            for n in range(3)
        )
        for record in records:
            rows.add_gate_record(ref, record)
        assert rows.gate_records(ref) == records

    def test_policies_are_versioned(self, rows):
        """Policies come by version, and a version is written once."""
        first = PolicyDocument(model=CREDIT, version=1, body={"rollback": {"error_rate": 0.1}}, at=at(1), by="ann")
        rows.add_policy(first)
        rows.add_policy(replace(first, version=2, body={}))
        with pytest.raises(AlreadyExists):
            rows.add_policy(replace(first, version=2))
        assert [p.version for p in rows.policies(CREDIT)] == [1, 2]
        assert rows.policies(CREDIT)[0] == first

    def test_a_scan_gives_every_row(self, unit, rows):
        """Versions, deployments, policies and production periods come kind by kind, each by key, with their content."""
        first, other = version(1), version(2, model=ModelName("fraud"))
        deployment, policy = Deployment(model=CREDIT, generation=1), PolicyDocument(model=CREDIT, version=1)
        period = ProductionPeriod(model=CREDIT, version=1, start=at(1), actor="a", reason="r", start_event="e1")
        for one in (other, first):
            rows.add_version(one)
        rows.put_deployment(deployment)
        rows.add_policy(policy)
        rows.open_tenure(period)
        found = unit.read(lambda tx: list(tx.store(RegistryStore).scan()))
        assert [(one.kind, one.name, one.content, one.fault) for one in found] == [
            (RowKind.VERSION, "credit@1", first, ""),
            (RowKind.VERSION, "fraud@2", other, ""),
            (RowKind.DEPLOYMENT, "credit", deployment, ""),
            (RowKind.POLICY, "credit 1", policy, ""),
            (RowKind.PERIOD, "credit 1", NumberedPeriod(number=1, period=period), ""),
        ]

    def test_keys_come_and_go(self, rows):
        """A secret is found by its digest, and written again in place of the former row."""
        keys = [
            ApiKey(id="k", digest=f"{n:064x}", scopes=("predict", "read"), label="l", added_at=at(5 - n))
            for n in (1, 2)
        ]
        for key in keys:
            rows.put_key(key)
        assert rows.api_keys() == (keys[1], keys[0])
        revoked = replace(keys[0], revoked_at=at(9), expires_at=at(10), replaced=True, local_uid=7)
        rows.put_key(revoked)
        assert rows.key(keys[0].digest) == revoked
        assert rows.api_keys() == (keys[1], revoked)
        assert rows.key("f" * 64) is None

    def test_snapshots_are_replaced_and_found_by_end(self, rows):
        """The same version, window and source is one snapshot; the end of the window and the recording select."""
        rows.add_version(version(1))
        ref = VersionRef(CREDIT, 1)

        def measured(end, source="push", **fields):
            return Snapshot(ref=ref, window=Window(at(end - 10), at(end)), source=source, **fields)

        rows.put_snapshot(measured(20, error_rate=0.1), recorded_at=at(20))
        rows.put_snapshot(measured(20, error_rate=0.2), recorded_at=at(21))
        rows.put_snapshot(measured(20, "drift", input_drift_score=0.3), recorded_at=at(30))
        rows.put_snapshot(measured(15), recorded_at=at(40))
        assert rows.snapshots(ref, ended_after=at(15)) == (
            measured(20, "drift", input_drift_score=0.3),
            measured(20, error_rate=0.2),
        )
        assert [s.window.end for s in rows.snapshots(ref, ended_after=at(0), recorded_from=at(30))] == [at(15), at(20)]

    def test_fine_snapshots_are_found_by_age_and_length(self, rows):
        """Old and short snapshots of one source are given by version and start; one is deleted by its whole key."""
        for number in (2, 1):
            rows.add_version(version(number))

        def measured(number, start, end, source="counters"):
            return Snapshot(ref=VersionRef(CREDIT, number), window=Window(at(start), at(end)), source=source)

        for one in (
            measured(2, 0, 1),
            measured(1, 1, 2),
            measured(1, 0, 1),
            measured(1, 0, 60),
            measured(1, 9, 10),
            measured(1, 0, 1, "push"),
        ):
            rows.put_snapshot(one, recorded_at=at(60))
        asked = {"shorter_than": timedelta(minutes=60), "ended_by": at(5)}
        found = rows.fine_snapshots("counters", **asked, limit=9)
        assert found == (measured(1, 0, 1), measured(1, 1, 2), measured(2, 0, 1))
        assert rows.fine_snapshots("counters", **asked, limit=2) == found[:2]
        rows.drop_snapshot(measured(1, 0, 1))
        rows.drop_snapshot(measured(1, 0, 1))
        assert rows.fine_snapshots("counters", **asked, limit=9) == found[1:]
        assert rows.snapshots(VersionRef(CREDIT, 1), ended_after=at(0))[0] == measured(1, 0, 1, "push")


class TestReports:
    REF = VersionRef(CREDIT, 1)

    def requests(self, rows, start, end):
        return sum(c.requests for c in rows.growth(self.REF, Window(at(start), at(end))))

    def add(self, rows, *reports):
        for one in reports:
            rows.add_report(one, received_at=one.at)

    def test_growth_is_the_difference_of_two_reports(self, rows):
        """What grew in a window is the last report in it minus the last before it, for each server and epoch."""
        self.add(rows, *(report(seq, counters=(counted(10 * seq),)) for seq in range(1, 6)))
        assert self.requests(rows, 0, 10) == 50
        assert self.requests(rows, 4, 8) == 20
        assert self.requests(rows, 5, 7) == 10
        assert self.requests(rows, 10, 20) == 0

    def test_growth_counts_by_arrival(self, rows):
        """A server whose clock is wrong is seen like any other: what it counted belongs to when its report arrived."""
        for seq, second in ((1, 2), (2, 4)):
            rows.add_report(report(seq, second=500, counters=(counted(10 * seq),)), received_at=at(second))
        assert self.requests(rows, 0, 10) == 20
        assert self.requests(rows, 3, 10) == 10

    def test_a_repeated_report_changes_nothing(self, rows):
        """The same (server, epoch, seq) again is ignored, even with other numbers."""
        self.add(rows, report(1, counters=(counted(10),)), report(1, counters=(counted(99),)))
        assert self.requests(rows, 0, 10) == 10

    def test_a_late_report_lands_where_it_belongs(self, rows):
        """Reports that arrive out of order count like those that came in order."""
        self.add(rows, *(report(seq, counters=(counted(10 * seq),)) for seq in (5, 1, 4, 2, 3)))
        assert self.requests(rows, 4, 8) == 20
        assert self.requests(rows, 0, 10) == 50
        assert rows.servers()[0].report.seq == 5

    def test_epochs_and_servers_add_up(self, rows):
        """A restarted server counts from 0 again, and nothing of its former epoch is lost."""
        self.add(
            rows,
            report(1, epoch="e1", second=2, counters=(counted(10),)),
            report(2, epoch="e1", second=4, counters=(counted(30),)),
            report(1, epoch="e2", second=6, counters=(counted(5),)),
            report(1, server="s2", second=6, counters=(counted(7),)),
        )
        assert self.requests(rows, 0, 10) == 42
        assert self.requests(rows, 2, 10) == 32
        assert self.requests(rows, 4, 5) == 0

    def test_versions_are_kept_apart(self, rows):
        """The counters of one version say nothing of another."""
        self.add(rows, report(1, counters=(counted(10), counted(99, number=2))))
        assert self.requests(rows, 0, 10) == 10

    def test_a_version_that_left_the_reports_keeps_its_count(self, rows):
        """A version no longer reported keeps what it had counted."""
        self.add(rows, report(1, counters=(counted(10),)), report(2, counters=(counted(1, number=2),)))
        assert self.requests(rows, 0, 10) == 10

    def test_the_newest_report_is_kept_whole(self, rows):
        """Servers are listed with their newest report and when it arrived; a new epoch supersedes by time."""
        convergence = ModelConvergence(
            model=CREDIT, generation_desired=2, generation_serving=1, version_serving=1, failed_version=2, error="no"
        )
        newest = replace(report(1, epoch="e2", second=9), convergence=(convergence,))
        self.add(rows, report(7, second=8), report(1, server="a", second=1))
        rows.add_report(newest, received_at=at(11))
        self.add(rows, report(8, second=8))
        listed = rows.servers()
        assert [state.name for state in listed] == ["a", "s1"]
        assert (listed[1].report, listed[1].received_at) == (newest, at(11))

    def test_a_new_epoch_supersedes_though_its_clock_was_set_back(self, rows):
        """The first report of a restarted server is the newest, whatever its clock says."""
        self.add(rows, report(7, second=8))
        rows.add_report(report(1, epoch="e2", second=3), received_at=at(9))
        (server,) = rows.servers()
        assert (server.report.epoch, server.received_at) == ("e2", at(9))

    @pytest.mark.parametrize("before", range(13))
    def test_pruning_changes_no_later_window(self, rows, before):
        """Whatever is pruned, every window that starts at the bound or later has the same growth as before."""
        self.add(
            rows,
            *(report(seq, counters=(counted(10 * seq),)) for seq in range(1, 6)),
            report(1, epoch="e2", second=11, counters=(counted(3),)),
            report(1, server="dead", second=2, counters=(counted(5),)),
            report(1, server="dead", epoch="e2", second=3),
        )
        spans = [(start, end) for start in range(before, 13) for end in range(start, 14)]
        grown = [self.requests(rows, *span) for span in spans]
        rows.prune_reports(at(before))
        assert [self.requests(rows, *span) for span in spans] == grown

    def test_pruning_forgets_dead_epochs(self, rows):
        """An epoch that ended before the bound leaves nothing; the newest epoch of a server keeps its base."""
        self.add(
            rows,
            report(1, epoch="e1", second=2, counters=(counted(10),)),
            report(1, epoch="e2", second=4, counters=(counted(5),)),
        )
        rows.prune_reports(at(5))
        assert self.requests(rows, 0, 10) == 5
        self.add(rows, report(2, epoch="e2", second=8, counters=(counted(9),)))
        assert self.requests(rows, 5, 10) == 4


def test_of_concurrent_promotions_one_wins(unit):
    """Whatever the store, of many promotions under one generation one is kept and the others learn of it."""
    model = ModelName("credit")
    for number in range(1, 5):
        approved = Approval(by="ann", at=at(0))
        flags = Governance(policy_compliant=approved, bias_check_passed=approved)
        record = version(number, stage=Stage.SANDBOX, governance=flags)
        unit.write(lambda tx, record=record: tx.store(RegistryStore).add_version(record))
    ids = itertools.count()
    registry = Registry(unit, None, lambda: at(9), lambda: f"id-{next(ids)}")

    def promote(number):
        try:
            return registry.lifecycle.promote(VersionRef(model, number), by="ann", expected_generation=0)
        except GenerationConflict as conflict:
            return conflict

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(promote, range(1, 5)))
    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, Deployment)]
    assert registry.lifecycle.deployment(model) == winner
    assert [tenure.version for tenure in registry.lifecycle.history(model)] == [winner.production]


def test_a_failed_transaction_leaves_nothing(unit, rows):
    """Everything a room wrote in a transaction goes when it fails."""

    def work(tx):
        store = tx.store(RegistryStore)
        store.add_version(version(1))
        store.bump_revision()
        raise Conflict("no")

    with pytest.raises(Conflict):
        unit.write(work)
    assert rows.models() == ()
    assert rows.revision() == 0
