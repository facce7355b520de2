"""The contract of Runner, over memory and subprocesses."""

from __future__ import annotations

import re
import runpy
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest

from mendel.adapters.arrow import read_table, write_table
from mendel.adapters.memory.git import MemoryGit
from mendel.adapters.memory.runner import MemoryRunner
from mendel.adapters.processes.subprocess_runner import SubprocessRunner
from mendel.errors import AlreadyExists, InvalidValue, ReleaseNotFound, RunnerFailed, RunnerLimit
from mendel.retraining import CodeSource, Limits, LoadJob, ParityJob, Progress, ReplayJob, Runner, TrainJob
from mendel.values import Table
from mendel.values.parity import ParityStatus

TAG = "toy-v1.0.0-mlserver-762e7f2"
START = datetime(2026, 3, 1, tzinfo=UTC)
PROJECT = "classifier: {name: toy}\npredictor: {module: toy_model, class_name: Toy}\n"
MODEL = """
from pathlib import Path
import joblib
import numpy as np

class Toy:
    def __init__(self, model_dir):
        self.bound = joblib.load(Path(model_dir) / "model.joblib")

    def predict(self, rows):
        values = np.asarray(rows, dtype=float)[:, 0]
        if np.isinf(values).any():
            raise ValueError("an infinite number")
        return (values > self.bound).astype(int)
"""
TRAINING = """
import time
import numpy as np

class Threshold:
    classes_ = np.array([0, 1])

    def __init__(self, bound):
        self.bound = bound

    def __reduce__(self):
        return float, (self.bound,)

    def predict(self, rows):
        return (np.asarray(rows, dtype=float)[:, 0] > self.bound).astype(int)

def train(frame, *, target, seed, progress):
    assert frame[target].dtype.kind == "i"
    progress(0.5)
    return Threshold(float(frame["x"].mean()))

def fail(frame, *, target, seed):
    raise ValueError("no such luck")

def nothing(frame, *, target, seed):
    return None

def slow(frame, *, target, seed):
    time.sleep(60)

def greedy(frame, *, target, seed):
    raise ValueError(f"{np.empty(1 << 33, dtype=np.uint8).nbytes} bytes were given")

def base(until):
    import pandas as pd
    return pd.DataFrame({"until": [str(until)], "x": [1.0]})
"""


@dataclass(frozen=True)
class Lab:
    """A released project, its rows, a runner, and jobs with sensible defaults."""

    runner: Runner
    project: Path
    work: Path

    @property
    def source(self) -> CodeSource:
        return CodeSource(project=self.project, revision=TAG)

    def train(self, function: str = "train", output: str = "train", **how: Any) -> TrainJob:
        job = TrainJob(
            source=self.source,
            classifier="toy",
            function=f"toy_training:{function}",
            task="classification",
            training=self.project.parent / "training.parquet",
            target="y",
            seed=0,
            output=self.work / output,
            holdout=self.project.parent / "holdout.parquet",
        )
        return replace(job, **how)

    def replay(self, *artifacts: Path, output: str = "replay") -> ReplayJob:
        return ReplayJob(
            source=self.source,
            classifier="toy",
            artifacts=artifacts,
            rows=self.project.parent / "holdout.parquet",
            output=self.work / output,
        )


def rows(count: int) -> Table:
    """Numbers evenly from 0 to 1; the label says which are above one half."""
    numbers = np.linspace(0, 1, count)
    return Table({"x": numbers, "y": (numbers > 0.5).astype(float)})


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's files, and rows to train on and to hold out beside it."""
    room = tmp_path_factory.mktemp("runner")
    made = room / "project"
    made.mkdir()
    for name, text in {"mlserver.yaml": PROJECT, "toy_model.py": MODEL, "toy_training.py": TRAINING}.items():
        (made / name).write_text(text, encoding="utf-8")
    write_table(rows(100), room / "training.parquet")
    write_table(rows(40), room / "holdout.parquet")
    return made


@pytest.fixture(scope="module", params=["memory", "subprocess"])
def runner(request: pytest.FixtureRequest, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Runner:
    if request.param == "memory":
        found = runpy.run_path(str(project / "toy_training.py"))
        return MemoryRunner({TAG: {f"toy_training:{name}": one for name, one in found.items() if callable(one)}})
    git = MemoryGit(lambda: START)
    repository = git.init(project)
    repository.add("mlserver.yaml", "toy_model.py", "toy_training.py")
    repository.tag(TAG, commit=repository.commit(at=START), at=START, message="release")
    return SubprocessRunner(git, tmp_path_factory.mktemp("cache"))


@pytest.fixture
def lab(runner: Runner, project: Path, tmp_path: Path) -> Lab:
    return Lab(runner, project, tmp_path)


@dataclass(frozen=True)
class Trained(Lab):
    """A lab whose job ``train`` is done, and what it told."""

    told: tuple[Progress, ...]


@pytest.fixture(scope="module")
def trained(runner: Runner, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    lab, told = Lab(runner, project, tmp_path_factory.mktemp("trained")), list[Progress]()
    lab.runner.train(lab.train(), told.append)
    return Trained(lab.runner, lab.project, lab.work, told=tuple(told))


def test_training_leaves_an_artefact_and_its_metrics(trained):
    """A job tells what it does in order, and leaves artefact, metrics on the holdout, and its log."""
    done, told = trained.runner.train(trained.train()), trained.told
    assert [step.doing for step in told if step.share is None] == ["reading", "training", "measuring", "writing"]
    assert Progress(doing="training", share=0.5) in told
    assert (done.rows, done.metrics["accuracy"]) == (100, 1.0)
    assert timedelta(0) <= done.duration < timedelta(minutes=1)
    assert {path.name for path in done.artifact.iterdir()} >= {"MLmodel", "model.joblib"}
    assert done.log.is_file()


def test_versions_answer_in_the_order_of_the_job(trained):
    """Each version has its own file of answers, row by row, its times in as many rounds as the others, and its size."""
    artifact = trained.runner.train(trained.train()).artifact
    done = trained.runner.replay(trained.replay(artifact, artifact))
    one, other = done.versions
    expected = read_table(trained.project.parent / "holdout.parquet")["y"].tolist()
    for version in done.versions:
        assert read_table(version.predictions)["prediction"].tolist() == expected
        assert all(0 < p95 < 1000 for p95 in version.latencies_ms)
        assert version.artifact_bytes > 100
    assert one.predictions != other.predictions
    assert len(one.latencies_ms) == len(other.latencies_ms) > 1
    assert done.rows == 40
    assert trained.runner.replay(trained.replay(artifact, artifact)) == done


def test_a_replay_can_count_the_rows_that_fail(trained, tmp_path):
    """Asked row by row, a version that fails on some rows answers the others; the count is per version."""
    artifact = trained.runner.train(trained.train()).artifact
    mixed = tmp_path / "mixed.parquet"
    write_table(Table({"x": np.array([0.1, np.inf, 0.9, np.inf, np.inf])}), mixed)
    job = replace(trained.replay(artifact, artifact, output="failures"), rows=mixed, failures=True)
    done = trained.runner.replay(job)
    assert [version.failed_rows for version in done.versions] == [3, 3]
    assert [version.latencies_ms for version in done.versions] == [(), ()]
    assert done.rows == 5


def parity_job(lab: Lab, artifact: Path, output: str, **how: Any) -> ParityJob:
    return ParityJob(source=lab.source, classifier="toy", artifact=artifact, output=lab.work / output, **how)


def test_a_version_answers_its_probe_rows_together_and_each_alone(trained):
    """An artefact as it was trained passes, and all its probe rows are asked alone; a replay tells the same."""
    artifact = trained.runner.train(trained.train()).artifact
    report = trained.runner.check_parity(parity_job(trained, artifact, "parity"))
    assert report.status is ParityStatus.PASSED
    assert report.singles == report.rows > 8
    (replayed,) = trained.runner.replay(trained.replay(artifact, output="once")).versions
    assert replayed.parity == report


def test_another_model_file_differs(trained, tmp_path):
    """A model file that answers otherwise is found; the report names row and both values."""
    artifact = shutil.copytree(trained.runner.train(trained.train()).artifact, tmp_path / "other")
    joblib.dump(10.0, artifact / "model.joblib")
    report = trained.runner.check_parity(parity_job(trained, artifact, "differs"))
    assert report.status is ParityStatus.DIFFERS
    assert re.search(r"row \d+ has another prediction .* answered 1, the version answers 0", report.detail)


def test_what_cannot_be_loaded_is_not_measured(trained, tmp_path):
    """A process that cannot load the version says why, and does not fail."""
    artifact = shutil.copytree(trained.runner.train(trained.train()).artifact, tmp_path / "broken")
    (artifact / "model.joblib").unlink()
    report = trained.runner.check_parity(parity_job(trained, artifact, "broken"))
    assert report.status is ParityStatus.NOT_MEASURED
    assert "FileNotFoundError" in report.reason
    assert "model.joblib" in report.detail


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_rows_of_a_file_are_answered_directly_and_as_served(trained, tmp_path, ending):
    """The stored model answers rows of a file, whose further columns do not matter; without its columns it says so."""
    artifact = trained.runner.train(trained.train()).artifact
    write_table(rows(40), tmp_path / f"rows.{ending}")
    job = parity_job(trained, artifact, f"file-{ending}", rows=tmp_path / f"rows.{ending}")
    assert trained.runner.check_parity(job).status is ParityStatus.PASSED
    write_table(Table({"other": np.arange(3.0)}), tmp_path / f"lacking.{ending}")
    job = parity_job(trained, artifact, f"lacking-{ending}", rows=tmp_path / f"lacking.{ending}")
    report = trained.runner.check_parity(job)
    assert report.status is ParityStatus.NOT_MEASURED
    assert "'x'" in report.reason


def test_base_rows_come_as_parquet(lab):
    """The project's own function is asked until when; its frame comes back as a file."""
    job = LoadJob(
        source=lab.source, function="toy_training:base", until="2026-01-01T00:00:00+00:00", output=lab.work / "load"
    )
    done = lab.runner.load(job)
    table = read_table(done.table)
    assert done.rows == 1
    assert table["until"].tolist() == ["2026-01-01 00:00:00+00:00"]


class TestIdempotence:
    def test_a_finished_job_is_given_back(self, trained):
        """The same job is not done again, also under other limits."""
        done = trained.runner.train(trained.train())
        written = (done.artifact / "model.joblib").stat().st_mtime_ns
        assert trained.runner.train(trained.train(limits=Limits(time=timedelta(minutes=5)))) == done
        assert (done.artifact / "model.joblib").stat().st_mtime_ns == written

    def test_another_job_may_not_have_its_output(self, trained):
        """What one job made stays, and the other is refused before it runs."""
        done = trained.runner.train(trained.train())
        for other in (trained.train(seed=1), trained.train("fail")):
            with pytest.raises(AlreadyExists, match="another job"):
                trained.runner.train(other)
        assert trained.runner.train(trained.train()) == done

    def test_a_job_that_broke_off_is_done_again(self, lab):
        """What it left is removed, and a job that failed may be another one next time."""
        with pytest.raises(RunnerFailed):
            lab.runner.train(lab.train("fail"))
        (lab.work / "train" / "half").write_text("half", encoding="utf-8")
        assert lab.runner.train(lab.train()).metrics["accuracy"] == 1.0
        assert not (lab.work / "train" / "half").exists()

    def test_jobs_side_by_side(self, lab):
        """Several threads run jobs at once, each with an output of its own."""
        with ThreadPoolExecutor(2) as pool:
            one, other = pool.map(lambda name: lab.runner.train(lab.train(output=name)), ("a", "b"))
        assert one.metrics == other.metrics
        assert one.artifact != other.artifact


class TestFailures:
    def test_a_revision_that_is_not_there(self, lab):
        """It is told before anything runs, and leaves no output."""
        with pytest.raises(ReleaseNotFound):
            lab.runner.train(lab.train(source=CodeSource(project=lab.project, revision="toy-v9")))
        assert not (lab.work / "train").exists()

    def test_a_replay_needs_a_version(self, lab):
        """A job without versions cannot be made."""
        with pytest.raises(InvalidValue):
            lab.replay()

    @pytest.mark.parametrize(
        ("function", "says"),
        [("fail", "no such luck"), ("absent", "no function 'absent'"), ("nothing", "has no method predict")],
    )
    def test_what_went_wrong_is_told(self, lab, function, says):
        """The log tells an error of the project, a wrong name or no model; the message gives the error's type alone."""
        with pytest.raises(RunnerFailed, match=r"ended with .*: (ValueError|[\w.]*InvalidInput)\.") as failed:
            lab.runner.train(lab.train(function))
        assert says not in failed.value.message
        assert says in failed.value.log_tail
        assert says in (lab.work / "train" / "log.txt").read_text(encoding="utf-8")

    def test_a_job_out_of_time_is_given_up(self, lab):
        """The caller waits no longer than the limit, gets an error that names it, and the output holds no outcome."""
        limits = Limits(time=timedelta(seconds=1))
        for _ in range(2):
            with pytest.raises(RunnerLimit, match="longer than 1s"):
                lab.runner.train(lab.train("slow", limits=limits))

    def test_a_job_out_of_memory_is_given_up(self, lab, request):
        """A job that asks for more than its limit is refused it, and the error names the limit."""
        if isinstance(lab.runner, MemoryRunner):
            reason = "threads of one process share their memory: the job's request succeeds"
            request.applymarker(pytest.mark.xfail(reason=reason, raises=RunnerFailed, strict=True))
        with pytest.raises(RunnerLimit, match="more memory than 3072 MiB"):
            lab.runner.train(lab.train("greedy", limits=Limits(memory_bytes=3 << 30)))
