"""Plain MLflow loads what Mendel registers."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import warnings

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

import mendel
from mendel.adapters.mlflow import MlflowArtifacts
from mendel.app.directory import DataDirectory
from mendel.registry import Mirror
from mendel.values import ModelName, Stage

with warnings.catch_warnings():  # MLflow warns of its own type hints when these are imported
    warnings.simplefilter("ignore")
    import mlflow.pyfunc
    import mlflow.sklearn

RNG = np.random.default_rng(3)
NUMBERS = pd.DataFrame(RNG.normal(size=(60, 2)), columns=["age", "income"])
MIXED = NUMBERS.assign(city=["Ulm", "Bonn", "Kiel"] * 20)
BOUGHT = (NUMBERS["age"] + NUMBERS["income"] > 0).astype(int)

ELSEWHERE = """
import json, sys
import mlflow, pandas
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model(sys.argv[2])
print(json.dumps(model.predict(pandas.read_json(sys.stdin, orient="split")).tolist()))
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("hub") / ".mendel"


@pytest.fixture(scope="module")
def client(directory):
    with mendel.connect(directory=str(directory)) as client:
        yield client


@pytest.fixture
def uri(directory):
    uri = f"sqlite:///{directory / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    yield uri
    mlflow.set_tracking_uri(None)


def in_production(client, directory, model, rows, name):
    """Register *model* and set the alias as the hub's mirror does after a promotion."""
    result = client.register_baseline(model=model, model_type="classification", name=name, training_data=rows)
    artifacts = MlflowArtifacts(f"sqlite:///{directory / 'mlflow.db'}", DataDirectory(directory).artifacts)
    artifacts.mirror(ModelName(name), Mirror(production=1, generation=1, stages={1: Stage.PRODUCTION}))
    return result


@pytest.mark.usefixtures("uri")
@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("numbers", LogisticRegression()),
        ("forest", RandomForestRegressor(5, random_state=0)),
        (
            "by-name",
            make_pipeline(
                ColumnTransformer([("city", OneHotEncoder(), ["city"])], remainder="passthrough"), LogisticRegression()
            ),
        ),
    ],
)
def test_mlflow_answers_as_the_model(client, directory, caplog, name, model):
    """The production version, loaded by its alias without a warning, answers as the caller's own object."""
    rows = MIXED if name == "by-name" else NUMBERS
    model.fit(rows, BOUGHT)
    result = in_production(client, directory, model, rows, name)
    with caplog.at_level(logging.WARNING, logger="mlflow"):
        loaded = mlflow.pyfunc.load_model(f"models:/{name}@production")
        assert (loaded.predict(rows) == model.predict(rows)).all()
        own = mlflow.sklearn.load_model(result.artifact_path)
    assert (own.predict(rows) == model.predict(rows)).all()
    assert [record.message for record in caplog.records] == []


def test_mlflow_loads_a_lambda_in_another_process(client, uri):
    """Code that is inside the pickle runs where the caller's script is not."""
    model = make_pipeline(FunctionTransformer(lambda rows: rows * 2), LogisticRegression()).fit(NUMBERS, BOUGHT)
    result = client.register_baseline(
        model=model, model_type="classification", name="lambda", input_example=NUMBERS[:3]
    )
    ended = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, uri, f"models:/lambda/{result.version}"],
        input=NUMBERS.to_json(orient="split"),
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout) == model.predict(NUMBERS).tolist()
