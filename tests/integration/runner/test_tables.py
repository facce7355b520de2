"""The example for any table, on real tables with categories, missing values and rare classes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from mendel.adapters.git import GitPrograms
from mendel.adapters.memory.runner import MemoryRunner
from mendel.adapters.processes.subprocess_runner import SubprocessRunner
from mendel.retraining import CodeSource, ReplayJob, TrainJob
from mendel.serving import read_mlmodel
from mendel.values import ColumnType
from support.shared_data import shared_data

ROOT = Path(__file__).parents[3]
TABLES = {"titanic.csv": ("Survived", ["PassengerId"], 0.7), "credit.csv": ("SeriousDlqin2yrs", ["Unnamed: 0"], 0.9)}


@pytest.fixture
def source(tmp_path):
    """The example, committed."""
    project = tmp_path / "table"
    shutil.copytree(ROOT / "examples" / "table", project, ignore=shutil.ignore_patterns("__pycache__"))
    author = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org"]
    for command in (["init", "-q"], ["add", "-A"], [*author, "commit", "-q", "-m", "release"]):
        subprocess.run(["git", "-C", str(project), *command], check=True)
    return CodeSource(project=project, revision="HEAD")


@pytest.mark.parametrize("name", TABLES)
def test_any_table_trains_and_answers(source, few_timed_rows, tmp_path, name):
    """Categories and gaps of a real table survive training, registration form, and replay as served."""
    target, dropped, expected = TABLES[name]
    frame = pd.read_csv(shared_data(name)).drop(columns=dropped)[:3000]
    cut = len(frame) * 2 // 3
    frame[:cut].to_parquet(tmp_path / "training.parquet", index=False)
    frame[cut:].to_parquet(tmp_path / "later.parquet", index=False)
    trained = SubprocessRunner(GitPrograms(), tmp_path / "cache").train(
        TrainJob(
            source=source,
            classifier="table",
            function="training:train",
            task="classification",
            training=tmp_path / "training.parquet",
            holdout=tmp_path / "later.parquet",
            target=target,
            seed=0,
            output=tmp_path / "train",
        )
    )
    assert trained.metrics["accuracy"] > expected
    signature = read_mlmodel(trained.artifact).signature
    kinds = {column.name: column.type for column in signature.inputs}
    assert kinds.get("Sex", ColumnType.STRING) is ColumnType.STRING
    replayed = MemoryRunner({"HEAD": {}}).replay(
        ReplayJob(
            source=source,
            classifier="table",
            artifacts=(trained.artifact,),
            rows=tmp_path / "later.parquet",
            output=tmp_path / "replay",
        )
    )
    answers = pd.read_parquet(replayed.versions[0].predictions)["prediction"].to_numpy()
    assert (answers == frame[target][cut:].to_numpy()).mean() == pytest.approx(trained.metrics["accuracy"])
