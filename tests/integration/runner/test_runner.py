"""The subprocess runner over a real project, real processes and real limits."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.integration.runner.conftest import TAG

from mendel.app.images.environments import LockEnvironments
from mendel.errors import NeedsNewImage, RunnerFailed, RunnerLimit
from mendel.gates import latency_ratio
from mendel.retraining import CodeSource, Limits, Progress
from mendel.serving import read_mlmodel
from mendel.values import Measured
from mendel.values.directory_trees import tree_digest
from mendel.values.parity import ParityStatus
from support.locks import lock_of
from support.wheels import wheel


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone_soon(pids: list[int]) -> bool:
    until = time.monotonic() + 5
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(map(alive, pids))


def test_trains_the_release_and_replays_it(bench, digits):
    """A release trains to an artefact whose replay answers what its metrics promise, from the tag and not the tree."""
    told: list[Progress] = []
    trained = bench.runner().train(bench.train(), told.append)
    assert trained.rows == 500
    assert trained.metrics["accuracy"] > 0.9
    assert timedelta(0) < trained.duration < timedelta(minutes=1)
    assert {path.name for path in trained.artifact.iterdir()} >= {"MLmodel", "model.joblib", "input_example.json"}
    assert (trained.artifact / "mendel" / "reference.json").is_file()
    assert [step.doing for step in told] == ["reading", "training", "measuring", "writing"]

    replayed = bench.runner().replay(bench.replay(trained.artifact))
    (version,) = replayed.versions
    answers = pd.read_parquet(version.predictions)
    assert list(answers.columns) == ["prediction", "proba.0", "proba.1"]
    assert replayed.rows == len(answers) == 200
    hits = answers["prediction"].to_numpy() == digits["even"][500:700].to_numpy()
    assert hits.mean() == trained.metrics["accuracy"]
    assert all(0 < p95 < 1000 for p95 in version.latencies_ms)
    assert version.artifact_bytes > 10_000


@pytest.mark.slow
def test_versions_are_replayed_and_timed_side_by_side(bench):
    """Each version answers in a file of its own, and a version that sleeps is surely slower in the same rounds."""
    runner = bench.runner()
    slow, quick = (runner.train(bench.train(f"naughty:{name}", output=name)) for name in ("sleepy", "spy"))
    replayed = runner.replay(bench.replay(slow.artifact, quick.artifact))
    one, other = replayed.versions
    assert pd.read_parquet(one.predictions).equals(pd.read_parquet(other.predictions))
    assert one.predictions != other.predictions
    ratio = latency_ratio(one.latencies_ms, other.latencies_ms)
    assert isinstance(ratio, Measured)
    assert ratio.low > 1.5
    assert runner.replay(bench.replay(slow.artifact, quick.artifact)) == replayed


def test_same_input_same_bytes(bench):
    """Two trainings with one seed, side by side, make artefacts of one digest, and one export serves both."""
    runner = bench.runner()
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda name: runner.train(bench.train(output=name)), ("one", "other"))
    assert tree_digest(one.artifact) == tree_digest(other.artifact)
    assert len(list((bench.work / "cache").iterdir())) == 1


def test_the_drift_reference_may_be_other_rows(bench, digits):
    """With reference rows given, the version expects those, and its signature still covers all it was trained on."""
    shifted = digits[700:900].assign(**{f"pixel_2_{c}": 16.0 - digits[f"pixel_2_{c}"] for c in range(8)})
    shifted.to_parquet(bench.work / "reference.parquet", index=False)
    plain = bench.runner().train(bench.train(output="plain"))
    moved = bench.runner().train(bench.train(output="moved", reference=bench.work / "reference.parquet"))
    read = [(result.artifact / "mendel" / "reference.json").read_bytes() for result in (plain, moved)]
    assert read[0] != read[1]
    assert (plain.artifact / "model.joblib").read_bytes() == (moved.artifact / "model.joblib").read_bytes()


def test_an_error_of_the_project_comes_with_the_end_of_its_log(bench):
    """What training printed and raised is in the error, and the log is kept whole."""
    with pytest.raises(RunnerFailed, match="ValueError") as caught:
        bench.runner().train(bench.train("naughty:fail"))
    assert "about to fail" in caught.value.log_tail
    assert "no such luck" in caught.value.log_tail
    assert "no such luck" not in str(caught.value)
    assert "about to fail" in (bench.work / "train" / "log.txt").read_text()


def test_a_killed_job_says_by_which_signal(bench):
    """A job that dies without a word is not a job that went well."""
    with pytest.raises(RunnerFailed, match="SIGKILL"):
        bench.runner().train(bench.train("naughty:die"))


def test_the_time_limit_kills_the_whole_group(bench, monkeypatch):
    """When time is over, the job and what it started are gone."""
    monkeypatch.setenv("TMPDIR", str(bench.work))
    for seconds in (3, 6, 12, 24, 48):  # on a busy machine the job may not have begun to sleep when its time is over
        limits = Limits(time=timedelta(seconds=seconds))
        with pytest.raises(RunnerLimit, match=f"took longer than {seconds}s"):
            bench.runner().train(bench.train("naughty:slow", output=f"slow-{seconds}", limits=limits))
        if (bench.work / "pids").is_file():
            break
    pids = [int(pid) for pid in (bench.work / "pids").read_text().split()]
    assert gone_soon(pids)


def test_credentials_of_the_hub_are_not_seen(bench, monkeypatch):
    """Of the environment a job sees listed variables only, its own project as directory, and an empty home."""
    for name in ("AWS_SECRET_ACCESS_KEY", "DATABASE_URL", "MENDEL_KEY", "MLFLOW_TRACKING_URI", "PGPASSWORD", "NEEDED"):
        monkeypatch.setenv(name, "s3cret")
    bench.runner(pass_environment=("NEEDED",)).train(bench.train("naughty:spy"))
    log = (bench.work / "train" / "log.txt").read_text()
    seen = log[log.index("ENVIRONMENT") :]
    assert "NEEDED" in seen
    assert not any(word in seen for word in ("AWS", "DATABASE", "MENDEL", "MLFLOW", "PGPASSWORD"))
    assert str(bench.work / "cache") in seen
    assert str(Path.home()) not in seen.split("]")[1]


class Poison:
    """Unpickling it leaves a mark in whichever process does."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        write = f"open({str(self.mark)!r}, 'a').write(f'{{__import__(\"os\").getpid()}}\\n')"
        return eval, (write,)


def test_only_the_jobs_process_unpickles(bench):
    """A poisoned artefact acts in the job's process, never in the caller's, and the caller gets an error."""
    trained = bench.runner().train(bench.train())
    mark = bench.work / "mark"
    (trained.artifact / "model.joblib").write_bytes(pickle.dumps(Poison(mark)))
    with pytest.raises(RunnerFailed):
        bench.runner().replay(bench.replay(trained.artifact))
    assert str(os.getpid()) not in mark.read_text().split()


PARENT = """
import sys
from pathlib import Path
from datetime import timedelta
from mendel.adapters.git import GitPrograms
from mendel.adapters.processes.subprocess_runner import SubprocessRunner
from mendel.retraining import CodeSource, TrainJob
project, work, tag = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
SubprocessRunner(GitPrograms(), work / "cache").train(TrainJob(
    source=CodeSource(project=project, revision=tag), classifier="digits-parity", function="naughty:slow",
    task="classification", training=work / "training.parquet", target="even", seed=0, output=work / "train"))
"""


def test_killing_the_caller_kills_the_job(bench):
    """After kill -9 of the caller no process of the job is left, its grandchildren included."""
    variables = {**os.environ, "TMPDIR": str(bench.work)}
    tag = bench.source.revision
    command = [sys.executable, "-c", PARENT, str(bench.project), str(bench.work), tag]
    with subprocess.Popen(command, env=variables) as parent:
        pids_file = bench.work / "pids"
        until = time.monotonic() + 30
        while not (pids_file.is_file() and pids_file.read_text().count(" ") == 2) and time.monotonic() < until:
            time.sleep(0.05)
        pids = [int(pid) for pid in pids_file.read_text().split()]
        assert all(map(alive, pids))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert gone_soon(pids)


def test_a_row_with_nulls_replays_as_served(bench, digits):
    """Nulls reach the model as serving gives them, not as an error of the runner."""
    frame = digits[:500].copy()
    frame.loc[::7, "pixel_0_0"] = np.nan
    frame.to_parquet(bench.work / "training.parquet", index=False)
    trained = bench.runner().train(bench.train("naughty:telling", holdout=None))
    frame[:50].to_parquet(bench.work / "holdout.parquet", index=False)
    assert bench.runner().replay(bench.replay(trained.artifact)).rows == 50


def test_a_release_with_a_lock_is_trained_and_replayed_with_its_packages(bench, tmp_path):
    """The version carries the release's files and says so; versions of different packages are not compared."""
    cache, clone = tmp_path / "cache", tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(bench.project), str(clone)], check=True, capture_output=True)
    (clone / "locked.py").write_text("import answering\n\nfrom naughty import telling as train\n", encoding="utf-8")
    answering = wheel("answering", "1.0", files={"answering.py": b""})
    lock = lock_of(cache, [answering], classifier="digits-parity")
    (clone / "mlserver.lock").write_text(lock.as_text(), encoding="utf-8")
    author = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org"]
    for arguments in (["add", "-A"], ["commit", "-q", "-m", "locked"]):
        subprocess.run(["git", "-C", str(clone), *author, *arguments], check=True, capture_output=True)
    runner = bench.runner(environments=LockEnvironments(lambda: cache, builds=True))
    source = CodeSource(project=clone, revision="HEAD")
    trained = runner.train(bench.train("locked:train", "locked", source=source)).artifact
    assert read_mlmodel(trained).locked
    carried = {path.relative_to(trained / "project").as_posix() for path in (trained / "project").rglob("*.*")}
    assert {"mlserver.yaml", "mlserver.lock", "model.py", "features.json"} <= carried
    assert "naughty.py" not in carried, "the model needs no other training function"
    assert runner.replay(bench.replay(trained, source=source)).versions[0].parity.status is ParityStatus.PASSED
    unlocked = CodeSource(project=bench.project, revision=TAG, locked=False)
    other = runner.train(bench.train("naughty:telling", "unlocked", source=unlocked)).artifact
    assert not read_mlmodel(other).locked
    with pytest.raises(NeedsNewImage, match="different packages"):
        runner.replay(bench.replay(trained, other, output="both"))
