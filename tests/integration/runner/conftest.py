"""A released project in a real repository, its rows as Parquet, and the runner."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mendel.adapters.git import GitPrograms
from mendel.adapters.processes.subprocess_runner import SubprocessRunner
from mendel.retraining import CodeSource, Limits, ReplayJob, TrainJob, replay_timing

EXAMPLES = Path(__file__).parents[3] / "examples"
TAG = "digits-parity-v1.0.0-mlserver-762e7f2"
PIXELS = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)]

NAUGHTY = """
import os, sys, subprocess, time
import numpy as np

class Prior:
    "Answers with the shares of the classes, whatever the row; jobs that train it need not import scikit-learn."

    def fit(self, rows, labels):
        self.classes_, counts = np.unique(np.asarray(labels), return_counts=True)
        self.shares = counts / counts.sum()
        return self

    def predict(self, rows):
        return np.full(len(rows), self.classes_[self.shares.argmax()])

    def predict_proba(self, rows):
        return np.tile(self.shares, (len(rows), 1))

def fail(frame, *, target, seed):
    print("about to fail")
    raise ValueError("no such luck")

def greedy(frame, *, target, seed):
    return [np.ones(1 << 27) for _ in range(8)]

def slow(frame, *, target, seed):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(os.environ["TMPDIR"] + "/pids", "w") as file:
        file.write(f"{os.getpid()} {child.pid} {os.getppid()}")
    time.sleep(600)

def spy(frame, *, target, seed):
    print("ENVIRONMENT", sorted(os.environ), os.getcwd(), os.environ["HOME"])
    return Prior().fit(frame, frame[target])

class Sleepy(Prior):
    def predict(self, rows):
        time.sleep(0.004)
        return super().predict(rows)

def sleepy(frame, *, target, seed):
    return Sleepy().fit(frame, frame[target])

def die(frame, *, target, seed):
    os.kill(os.getpid(), 9)

def nothing(frame, *, target, seed):
    return None

def telling(frame, *, target, seed, progress):
    progress(0.5)
    return Prior().fit(frame.drop(columns=target).to_numpy(), frame[target].to_numpy())

def base(until):
    import pandas as pd
    return pd.DataFrame({"until": [str(until)], "x": [1.0]})
"""


@dataclass(frozen=True)
class Bench:
    """Everything a job needs, and jobs with sensible defaults."""

    project: Path
    work: Path

    @property
    def source(self) -> CodeSource:
        return CodeSource(project=self.project, revision=TAG)

    def runner(self, **how: object) -> SubprocessRunner:
        return SubprocessRunner(GitPrograms(), self.work / "cache", **how)

    def train(self, function: str = "training:train", output: str = "train", **how: object) -> TrainJob:
        given = {
            "source": self.source,
            "classifier": "digits-parity",
            "function": function,
            "task": "classification",
            "training": self.work / "training.parquet",
            "target": "even",
            "seed": 0,
            "output": self.work / output,
            "holdout": self.work / "holdout.parquet",
            "limits": Limits(memory_bytes=3 << 30),
        }
        return TrainJob(**{**given, **how})

    def replay(self, *artifacts: Path, output: str = "replay", **how: object) -> ReplayJob:
        given = {
            "source": self.source,
            "classifier": "digits-parity",
            "artifacts": artifacts,
            "rows": self.work / "holdout.parquet",
            "output": self.work / output,
        }
        return ReplayJob(**{**given, **how})


def _git(directory: Path, *arguments: str) -> None:
    author = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org"]
    subprocess.run(["git", "-C", str(directory), *author, *arguments], check=True, capture_output=True)


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    """The digits example with naughty training functions and a file named like a standard module, released."""
    directory = tmp_path_factory.mktemp("project") / "digits"
    shutil.copytree(EXAMPLES / "digits", directory, ignore=shutil.ignore_patterns("__pycache__"))
    (directory / "naughty.py").write_text(NAUGHTY, encoding="utf-8")
    (directory / "json.py").write_text("raise RuntimeError('imported instead of the standard library')\n")
    _git(directory, "init", "-q")
    _git(directory, "add", "-A")
    _git(directory, "commit", "-q", "-m", "release")
    _git(directory, "tag", "-a", "-m", "release", TAG)
    (directory / "training.py").write_text("raise SystemExit('the working tree was used')\n", encoding="utf-8")
    return directory


@pytest.fixture(scope="session")
def digits(project):
    """All rows, shuffled, as the example's own script gives them."""
    script = "import sys, numpy; sys.path.append('.'); import prepare; numpy.savez(sys.argv[1], *prepare.dataset())"
    file = project.parent / "digits.npz"
    subprocess.run([sys.executable, "-P", "-c", script, str(file)], cwd=project, check=True)
    pixels, even = np.load(file).values()
    return pd.DataFrame(pixels, columns=PIXELS).assign(even=even)


@pytest.fixture
def bench(project, digits, tmp_path):
    """Five hundred rows to train on and two hundred to hold out."""
    digits[:500].to_parquet(tmp_path / "training.parquet", index=False)
    digits[500:700].to_parquet(tmp_path / "holdout.parquet", index=False)
    return Bench(project=project, work=tmp_path)


@pytest.fixture
def few_timed_rows(monkeypatch):
    """Time 2 rows of each version in a round instead of 60: what is not about latency need not make 5,400 calls."""
    monkeypatch.setattr(replay_timing, "_MOST_ROWS", 2)
