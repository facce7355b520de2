"""A registry as it is embedded: SQLite for the state, MLflow for the artefacts."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from mendel.adapters.mlflow import MlflowArtifacts
from mendel.adapters.sql import SqlUnitOfWork, open_engine, prepare_schema
from mendel.adapters.sql.registry import STORES
from mendel.registry import Registry


@pytest.fixture(scope="session")
def mlflow_directory(tmp_path_factory):
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="session")
def artifacts(mlflow_directory):
    return MlflowArtifacts(f"sqlite:///{mlflow_directory}/mlflow.db", mlflow_directory / "artifacts")


@pytest.fixture
def engine(tmp_path):
    engine = open_engine(tmp_path / "mendel.db")
    prepare_schema(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def unit(engine):
    return SqlUnitOfWork(engine, STORES, rng=random.Random(0))


@pytest.fixture
def registry(unit, artifacts):
    return Registry(unit, artifacts, lambda: datetime.now(UTC), lambda: uuid4().hex)


@pytest.fixture
def tree(tmp_path):
    directory = tmp_path / "tree"
    directory.mkdir()
    (directory / "MLmodel").write_text("flavors: {sklearn: {}}\n")
    (directory / "model.joblib").write_bytes(b"weights")
    return directory
