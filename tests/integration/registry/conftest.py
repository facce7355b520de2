"""A registry as it is embedded: SQLite for the state, MLflow for the artefacts."""

from __future__ import annotations

import random
from contextlib import ExitStack
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
def open_engine_at():
    """Opens databases, and closes them after the test."""
    with ExitStack() as closing:

        def open_at(path):
            engine = open_engine(path)
            closing.callback(engine.dispose)
            prepare_schema(engine)
            return engine

        yield open_at


@pytest.fixture
def engine(open_engine_at, tmp_path):
    return open_engine_at(tmp_path / "mendel.db")


def registry_over(engine, artifacts):
    unit = SqlUnitOfWork(engine, STORES, rng=random.Random(0))
    return Registry(unit, artifacts, lambda: datetime.now(UTC), lambda: uuid4().hex)


@pytest.fixture
def registry(engine, artifacts):
    return registry_over(engine, artifacts)


@pytest.fixture
def open_registry(open_engine_at, artifacts):
    """Opens the registry of a database that is there."""
    return lambda path: registry_over(open_engine_at(path), artifacts)
