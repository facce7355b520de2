"""A whole retraining over the digits: real project, real training and replay, registry in memory."""

from __future__ import annotations

import runpy
import threading
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mendel.adapters.arrow import read_table, write_table
from mendel.adapters.git import GitPrograms
from mendel.adapters.memory import MemoryUnitOfWork, MemoryWorkflows
from mendel.adapters.memory.artifacts import MemoryArtifacts
from mendel.adapters.memory.registry import STORES
from mendel.adapters.memory.runner import MemoryRunner
from mendel.adapters.processes.subprocess_runner import SubprocessRunner
from mendel.drift import MonitoringPolicy, Reference, compare
from mendel.durable import Ledger, WorkflowCall, WorkflowState
from mendel.errors import Conflict
from mendel.projects import code_digest, files_below, load_project
from mendel.registry import ProjectSource, Registration, Registry, RegistryStore
from mendel.registry.version_records import ParityWaiver
from mendel.retraining import CodeSource, Limits, Ready, Retraining, Runner, TrainJob, may_start
from mendel.values import ModelName, Stage, Table, VersionRef, to_micros
from mendel.values.data_frames import as_table
from mendel.values.parity import ParityReport, ParityStatus

pytestmark = [
    pytest.mark.filterwarnings("ignore:X has feature names:UserWarning"),
    pytest.mark.usefixtures("few_timed_rows"),
]
"""The example trains on arrays and is measured on frames; in a process of its own nobody sees scikit-learn's remark."""

MODEL = ModelName("digits-parity")
TAG = "digits-parity-v1.0.0-mlserver-762e7f2"
BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
POLICY = {
    "monitoring": {"target": "even", "positive_label": 1},
    "gates": {"cooldown": "0s"},
    "retraining": {"min_labels": 400, "limits": {"memory": "3GiB", "time": "2m"}},
    "governance": {"require": []},
}
ROWS_SHIFTED = (2, 3, 4, 5)


class ParquetTables:
    """The tables port over real files."""

    def read(self, path):
        return read_table(path)

    def write(self, table, path):
        write_table(table, path)


@dataclass
class Stream:
    """The log of a server: rows one second apart, every one labelled, until somebody shortens it."""

    rows: Table

    def predictions(self, model, window, *, columns=None):
        at = self.rows["event_time"]
        found = self.rows.take((at >= to_micros(window.start)) & (at < to_micros(window.end)))
        return found if columns is None else found.select(columns)

    def labelled(self, model, window):
        return self.predictions(model, window)


class Killed(BaseException):
    """The process is gone."""


@dataclass
class CountingRunner:
    """A runner that counts its jobs, dies after the one it is told to, and finds the parity that it is told to find."""

    inner: Runner
    parity: ParityReport | None = None
    jobs: list[str] = field(default_factory=list)
    kill: str | None = None

    def train(self, job, on_progress):
        return self._do("train", lambda: self.inner.train(job, on_progress))

    def replay(self, job, on_progress):
        done = self._do("replay", lambda: self.inner.replay(job, on_progress))
        versions = [one if self.parity is None else replace(one, parity=self.parity) for one in done.versions]
        return replace(done, versions=tuple(versions))

    def load(self, job, on_progress):
        return self._do("load", lambda: self.inner.load(job, on_progress))

    def _do(self, name, act):
        self.jobs.append(name)
        done = act()
        if self.kill == name:
            self.kill = None
            raise Killed
        return done


@dataclass
class House:
    """Everything a retraining stands on."""

    root: Path
    unit: MemoryUnitOfWork
    registry: Registry
    runner: CountingRunner
    stream: Stream
    now: datetime

    def retraining(self):
        return Retraining(
            unit=self.unit,
            registry=self.registry,
            log=self.stream,
            runner=self.runner,
            tables=ParquetTables(),
            directory=self.root / "state",
            clock=lambda: self.now,
        )

    def events(self):
        entries = self.unit.read(lambda tx: tx.store(Ledger).entries())
        return [entry.event.type for entry in entries]


def shifted(frame):
    """A recalibrated instrument: four rows of pixels report half the gain and an offset of 8."""
    columns = [f"pixel_{row}_{column}" for row in ROWS_SHIFTED for column in range(8)]
    return frame.assign(**{name: frame[name] * 0.5 + 8 for name in columns})


def logged(frame, *, start=BEGIN):
    """The frame as the prediction log gives it."""
    count = len(frame)
    features = {f"feature.{name}": frame[name].to_numpy(float) for name in frame.columns if name != "even"}
    return Table(
        {
            "event_time": to_micros(start) + np.arange(count) * 1_000_000,
            "shadow": np.zeros(count, dtype=bool),
            "simulated": np.zeros(count, dtype=bool),
            "error": np.full(count, None, dtype=object),
            "label": frame["even"].to_numpy(float),
            **features,
        }
    )


@dataclass
class FirstVersion:
    """What version 1 is made of, trained once for all tests."""

    artifact: Path
    data: Path
    exports: Path


@pytest.fixture(scope="session")
def first_version(project, digits, tmp_path_factory):
    """Trained on 500 rows by the release."""
    root = tmp_path_factory.mktemp("first")
    data = root / "data"
    data.mkdir()
    digits[:500].to_parquet(data / "training.parquet", index=False)
    job = TrainJob(
        source=CodeSource(project=project, revision=TAG),
        classifier=str(MODEL),
        function="training:train",
        task="classification",
        training=data / "training.parquet",
        target="even",
        seed=0,
        output=root / "train",
    )
    trained = SubprocessRunner(GitPrograms(), root / "exports").train(job)
    return FirstVersion(artifact=trained.artifact, data=data, exports=root / "exports")


@pytest.fixture(scope="session")
def memory_runner(first_version):
    """The release's training function in this process: the claims about a run do not need a process for each job."""
    exported = next(first_version.exports.iterdir())
    return MemoryRunner({TAG: {"training:train": runpy.run_path(str(exported / "training.py"))["train"]}})


@pytest.fixture
def house(project, digits, first_version, memory_runner, tmp_path):
    """Version 1 in production; then 250 quiet rows and 600 shifted ones."""
    unit = MemoryUnitOfWork(STORES)
    ids = iter(range(1, 1_000_000))
    now = BEGIN + timedelta(hours=1)
    registry = Registry(unit, MemoryArtifacts(tmp_path / "artifacts"), lambda: now, lambda: f"id-{next(ids)}")
    exported = next(first_version.exports.iterdir())
    request = Registration(
        model=MODEL,
        flavor="mendel",
        task="classification",
        release_tag=TAG,
        code_digest=code_digest(exported, files_below(exported)),
        project=ProjectSource(repository=str(project), classifier=str(MODEL), tag=TAG),
    )
    first = registry.versions.register(request, first_version.artifact, data=first_version.data)
    registry.policies.set(MODEL, {"governance": POLICY["governance"]})
    registry.parity.record_clean(first.ref, first.parity, by="test")
    registry.lifecycle.transition(first.ref, Stage.SANDBOX, by="test")
    registry.lifecycle.promote(first.ref, by="test")
    registry.policies.set(MODEL, POLICY)
    frame = pd.concat([digits[500:750], shifted(digits[750:1350])], ignore_index=True)
    house = House(
        root=tmp_path,
        unit=unit,
        registry=registry,
        runner=CountingRunner(memory_runner),
        stream=Stream(logged(frame)),
        now=now,
    )
    assert load_project(exported).classifier(MODEL).retraining["module"] == "training"
    return house


def run(house, run_id="R-1", **payload):
    """Run the workflow to its end."""
    workflows = MemoryWorkflows()
    workflows.register("retrain", house.retraining().run)
    with workflows.open():
        asked = {"model": str(MODEL), "cause": "drift", **payload}
        workflows.start(WorkflowCall(name="retrain", id=run_id, input=asked))
        return workflows.wait(run_id, timeout=timedelta(seconds=100))


@pytest.mark.slow
def test_a_candidate_wins_honestly_after_a_shift(house, digits, first_version):
    """Trained on old and new rows, the candidate beats production on rows neither has seen, and repairs what broke."""
    house.runner.inner = SubprocessRunner(GitPrograms(), first_version.exports)
    since = BEGIN + timedelta(seconds=250)
    ended = run(house, since=since.isoformat())
    assert ended.state is WorkflowState.DONE, ended.error
    result = ended.result
    ref = VersionRef(MODEL, 2)
    record, gates = house.registry.versions.get(ref), house.registry.lifecycle.gate_records(ref)
    assert result["verdict"] == "pass", result["text"]
    assert (result["verdict"], result["candidate"], result["production"]) == (
        "pass",
        "digits-parity@2",
        "digits-parity@1",
    )
    assert [gate.report_digest for gate in gates] == [result["report"]]
    (latency,) = (gate for gate in gates[0].body["gates"] if gate["gate"] == "latency")
    assert latency["verdict"] == "pass"
    assert gates[0].body["candidate_score"] > 0.93
    assert gates[0].body["production_score"] < 0.75

    assert record.stage is Stage.SANDBOX
    assert record.clean_parity.status is ParityStatus.PASSED
    assert record.clean_parity.singles == record.clean_parity.rows > 8
    assert record.without_parity is None
    assert record.parent == VersionRef(MODEL, 1)
    first = house.registry.versions.get(VersionRef(MODEL, 1))
    assert (record.code_digest, record.release_tag, record.project) == (
        first.code_digest,
        first.release_tag,
        first.project,
    )
    assert record.metadata["evaluation_rows"] == 300
    assert (record.metadata["base_rows"], record.metadata["recent_rows"]) == (500, 550)
    assert record.training_fingerprint.startswith("sha256:")
    assert house.registry.lifecycle.deployment(MODEL).production == 1
    assert house.events().count("retraining.started") == house.events().count("retraining.finished") == 1

    kept = read_table(house.registry.versions.data(ref) / "training.parquet")
    assert len(kept) == 1050
    cut = datetime.fromisoformat(record.metadata["trained_until"])
    assert cut == BEGIN + timedelta(seconds=550)

    reference = Reference.from_json((house.registry.versions.tree(ref) / "mendel" / "reference.json").read_bytes())
    after = as_table(shifted(digits[1350:1750]).drop(columns="even"))
    before = as_table(digits[1350:1750].drop(columns="even"))
    policy = MonitoringPolicy()
    assert compare(reference, after, policy).drift_share.value < 0.1
    assert compare(reference, before, policy).drift_share.value >= 0.3

    house.registry.lifecycle.promote(ref, by="test")
    assert house.registry.lifecycle.deployment(MODEL).production == 2


def test_a_candidate_that_answers_otherwise_stays_in_development(house):
    """A candidate whose served answers differ in the replay's process fails the run, which names the difference."""
    house.runner.parity = ParityReport(
        status=ParityStatus.DIFFERS, reason="row 3, prediction: 1 and 0", difference_id="a"
    )
    ended = run(house)
    assert ended.state is WorkflowState.FAILED
    assert "row 3, prediction: 1 and 0" in ended.error
    candidate = house.registry.versions.get(VersionRef(MODEL, 2))
    assert (candidate.stage, candidate.registered_by) == (Stage.DEVELOPMENT, "retraining")


def test_a_candidate_is_excused_from_parity_like_the_version_that_it_replaces(house):
    """A candidate that cannot be measured needs a production version that serves without parity, and says so."""
    house.runner.parity = ParityReport.not_measured("not reproducible")
    ended = run(house)
    assert ended.state is WorkflowState.FAILED
    assert "its parity is not measured (not reproducible)" in ended.error
    first = house.registry.versions.get(VersionRef(MODEL, 1))
    waiver = ParityWaiver(reason="it draws lots", unmeasured="not reproducible", by="ann", at=house.now)
    excused = replace(first, clean_parity=None, without_parity=waiver)
    house.unit.write(lambda tx: tx.store(RegistryStore).replace_version(excused))
    ended = run(house, run_id="R-2")
    assert ended.state is WorkflowState.DONE, ended.error
    candidate = house.registry.versions.get(VersionRef(MODEL, 3))
    assert candidate.stage is Stage.SANDBOX
    assert candidate.without_parity.reason == f"{first.ref}, which it is to replace, serves without parity, too"
    assert candidate.without_parity.by == "retraining"


def test_without_labels_a_run_says_what_it_waits_for(house):
    """Nothing is trained or registered; the message counts, and supply counts the same before anybody starts."""
    house.stream.rows = house.stream.rows.take(np.arange(143))
    retraining = house.retraining()
    supply = retraining.supply(MODEL, house.registry.policies.of(MODEL), house.now)
    assert (supply.have, supply.need) == (143, 400)
    assert not isinstance(may_start(supply), Ready)
    ended = run(house)
    assert ended.state is WorkflowState.FAILED
    assert "waiting for labels: 143 of 400" in ended.error
    assert house.runner.jobs == []
    assert len(house.registry.versions.of(MODEL)) == 1


@pytest.mark.slow
def test_a_stationary_stream_promotes_nobody(house, digits):
    """Retrained on more of the same, a candidate does not pass for better than it is."""
    house.stream.rows = logged(digits[500:1350])
    ended = run(house, cause="manual")
    assert ended.state is WorkflowState.DONE, ended.error
    gates = {
        gate["gate"]: gate for gate in house.registry.lifecycle.gate_records(VersionRef(MODEL, 2))[0].body["gates"]
    }
    assert ended.result["verdict"] in {"fail", "undecided"}, ended.result["text"]
    assert gates["improvement"]["verdict"] != "pass"
    assert gates["samples"]["verdict"] == gates["coverage"]["verdict"] == gates["schema"]["verdict"] == "pass"


@pytest.mark.slow
@pytest.mark.parametrize("point", ["train", "replay"])
def test_killed_and_resumed_a_run_repeats_nothing_that_finished(house, point):
    """Killed after a job and before its step is remembered, a resumed run finds what the job made, once."""
    house.runner.kill = point
    workflows = MemoryWorkflows()
    workflows.register("retrain", house.retraining().run)
    call = WorkflowCall(name="retrain", id="R-9", input={"model": str(MODEL), "cause": "quality"})
    with workflows.open():
        workflows.start(call)
        until = datetime.now(UTC) + timedelta(seconds=90)
        while house.runner.kill is not None and datetime.now(UTC) < until:
            threading.Event().wait(0.05)
    assert workflows.get("R-9").state is WorkflowState.RUNNING
    outcomes = sorted((house.root / "state" / "runs" / "R-9").glob("*/outcome.json"))
    made = {path: path.stat().st_mtime_ns for path in outcomes}
    assert made
    with workflows.open():
        ended = workflows.wait("R-9", timeout=timedelta(seconds=90))
    assert ended.state is WorkflowState.DONE, ended.error
    assert {path: path.stat().st_mtime_ns for path in outcomes} == made
    assert len(house.registry.versions.of(MODEL)) == 2
    assert len(house.registry.lifecycle.gate_records(VersionRef(MODEL, 2))) == 1
    assert house.events().count("retraining.finished") == 1


def test_a_version_without_a_project_says_so(house):
    """A plain model has no code to train it with; the error names what to do."""
    plain = house.registry.versions.tree(VersionRef(MODEL, 1))
    other = ModelName("plain")
    record = house.registry.versions.register(Registration(model=other, flavor="mendel", task="classification"), plain)
    house.registry.lifecycle.transition(record.ref, Stage.SANDBOX, by="test", without_parity="a plain model")
    house.registry.policies.set(other, {"governance": {"require": []}, "monitoring": {"target": "even"}})
    house.registry.lifecycle.promote(record.ref, by="test")

    class Direct:
        id = "R-2"

        def step(self, name, act):
            return act()

    with pytest.raises(Conflict, match="has no release tag"):
        house.retraining().run(Direct(), {"model": "plain"})


def test_training_jobs_are_made_of_the_policy(house):
    """Seed, limits and function reach the job as the policy says."""
    seen: list[TrainJob] = []
    inner = house.runner.inner

    class Looking(CountingRunner):
        def train(self, job, on_progress):
            seen.append(job)
            raise Killed

    house.runner = Looking(inner)
    body = {**POLICY, "retraining": {**POLICY["retraining"], "function": "other", "seed": 7}}
    house.registry.policies.set(MODEL, body)

    class Direct:
        id = "R-3"

        def step(self, name, act):
            return act()

    with pytest.raises(Killed):
        house.retraining().run(Direct(), {"model": str(MODEL), "cause": "drift"})
    assert (seen[0].function, seen[0].seed) == ("training:other", 7)
    assert seen[0].limits == Limits(memory_bytes=3 << 30, time=timedelta(minutes=2))
