"""A project made from a table: its task is decided and said, and what it trains answers raw rows."""

from __future__ import annotations

import importlib
import json
import re
import sys

import numpy as np
import pandas as pd
import pytest

from mendel.adapters.arrow import read_table_and_times, write_table
from mendel.app.project.project_file_schema import require_policies
from mendel.app.project.scaffold import table_project
from mendel.drift import MonitoringPolicy
from mendel.errors import InvalidInput
from mendel.gates import GatePolicy
from mendel.healing.policy import HealingPolicy
from mendel.projects import load_project
from mendel.projects.table_project import task_of_target
from mendel.registry import GovernancePolicy, RollbackPolicy
from mendel.retraining import RetrainingPolicy
from mendel.values import ModelName, Table, from_mapping

POLICIES = {
    "monitoring": MonitoringPolicy,
    "retraining": RetrainingPolicy,
    "healing": HealingPolicy,
    "rollback": RollbackPolicy,
    "gates": GatePolicy,
    "governance": GovernancePolicy,
}
MODULES = ("features", "training", "predictor")


@pytest.fixture
def shop(tmp_path):
    """A table with numbers, text, dates and truth values, each with gaps, and two targets."""
    rng, rows = np.random.default_rng(0), 120
    joined = pd.to_datetime("2020-01-01") + pd.to_timedelta(rng.integers(0, 1500, rows), unit="D")
    age, city = rng.integers(18, 80, rows).astype(float), rng.choice(["Ulm", "Köln"], rows)
    frame = pd.DataFrame({"age": age, "city": city, "joined": joined, "vip": rng.random(rows) < 0.3}).astype(
        {"vip": object}
    )
    frame["bought"] = np.where((age > 40) ^ (city == "Ulm"), "yes", "no")
    frame["spent"] = age * 1.5 + (city == "Ulm")
    for name in ("age", "city", "joined", "vip"):
        frame.loc[rng.random(rows) < 0.1, name] = None
    frame.to_csv(tmp_path / "shop.csv", index=False)
    return tmp_path / "shop.csv"


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes the files of a project, and gives its three modules."""

    def write(files):
        root = tmp_path / "project"
        for file in files:
            (root / file.path).parent.mkdir(parents=True, exist_ok=True)
            (root / file.path).write_text(file.text, encoding="utf-8")
        monkeypatch.syspath_prepend(str(root))
        return root, [importlib.import_module(name) for name in MODULES]

    yield write
    for name in MODULES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize(("target", "task"), [("bought", "classification"), ("spent", "regression")])
def test_what_the_project_trains_answers_raw_rows(shop, written, tmp_path, target, task):
    """The train function learns text, dates and gaps; the predictor answers rows of only gaps and of new categories."""
    files, told = table_project(ModelName("shop"), "Predictor", data=shop, target=target, task=None)
    root, (_, training, predictor) = written(files)
    frame = pd.read_csv(shop, parse_dates=["joined"])
    fitted = training.train(frame, target=target, seed=0)
    importlib.import_module("joblib").dump(fitted, tmp_path / "model.joblib")
    made = predictor.Predictor(tmp_path)
    features = frame.drop(columns=target)
    empty = pd.DataFrame([dict.fromkeys(features)])
    assert len(made.predict(features.head(2).assign(city="Rom"))) == 2
    assert len(made.predict(empty)) == 1
    assert hasattr(made, "predict_proba") == (task == "classification")
    assert f"{task}, because '{target}' has" in told[1]
    assert "dates: joined" in told[0]
    assert load_project(root).classifier("shop").monitoring["task"] == task


def test_each_commented_key_is_a_key(shop, tmp_path, written):
    """With every comment of the sections removed, mlserver.yaml is valid, and every default is the real one."""
    root, _ = written(table_project(ModelName("shop"), "Predictor", data=shop, target="bought", task=None)[0])
    plain = load_project(root)
    text = (root / "mlserver.yaml").read_text(encoding="utf-8")
    (root / "mlserver.yaml").write_text(re.sub(r"(?m)^( *)# (?= *\w+:(?: |$))", r"\1", text), encoding="utf-8")
    full = load_project(root)
    require_policies(full)
    before, after = (one.classifier("shop") for one in (plain, full))
    assert {*before.policy, "healing", "rollback", "gates", "governance"} == after.policy.keys()
    for name, kind in POLICIES.items():
        read = [from_mapping(kind, getattr(one, name), at=name) for one in (before, after)]
        assert read[0] == read[1], name


def test_the_smoke_request_is_a_typical_row(shop):
    """The example request has the most frequent value of each feature, times in ISO 8601, and no target."""
    files, _ = table_project(ModelName("shop"), "Predictor", data=shop, target="bought", task=None)
    (smoke,) = (json.loads(file.text) for file in files if file.path == "smoke/shop.json")
    (row,) = smoke["records"]
    assert row.keys() == {"age", "city", "joined", "vip", "spent"}
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT00:00:00\+00:00", row["joined"])


def column(*values):
    return Table({"y": np.array(values, dtype=object if any(isinstance(one, str | bool) for one in values) else float)})


@pytest.mark.parametrize(
    ("values", "task", "positive", "metric"),
    [
        ((0, 1, 1, 0), "classification", 1, "f1"),
        (("no", "yes", "no"), "classification", "yes", "f1"),
        ((True, False, None), "classification", True, "f1"),
        ((1, 2, 3), "classification", None, "balanced_accuracy"),
        ((0.5, 1.5, 2.0), "regression", None, "rmse"),
        (tuple(range(11)), "regression", None, "rmse"),
    ],
)
def test_the_values_decide_the_task(values, task, positive, metric):
    """Text, truth values and few whole numbers are classes; other numbers are learnt by regression."""
    found = task_of_target(column(*values), "y", frozenset())
    assert (found.task, found.positive, found.metric) == (task, positive, metric)


@pytest.mark.parametrize(
    ("values", "task", "said"),
    [
        ((1, 1), None, "1 different values"),
        ((0.5, 1.5), "classification", "fractions"),
        (("a", "b"), "regression", "cannot learn"),
        (tuple(f"name {n}" for n in range(101)), None, "at most 100"),
    ],
)
def test_a_target_that_cannot_be_learnt_is_refused(values, task, said):
    """A target with one value, or that does not fit the task, is an error that says why."""
    with pytest.raises(InvalidInput, match=said):
        task_of_target(column(*values), "y", frozenset(), task)


def test_a_table_keeps_its_times(shop, tmp_path):
    """Columns of dates are known by name and written as times, gaps included, so that a version is trained on times."""
    table, times = read_table_and_times(shop)
    assert times == {"joined"}
    write_table(table, tmp_path / "shop.parquet", times=times)
    joined = pd.read_parquet(tmp_path / "shop.parquet")["joined"]
    assert joined.dtype == "datetime64[us, UTC]"
    assert joined.isna().sum() == np.isnan(table["joined"]).sum() > 0
