"""The registry over SQLite and MLflow, with real processes that are really killed."""

from __future__ import annotations

import pickle
import statistics
import subprocess
import sys
import textwrap
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sklearn.linear_model import LogisticRegression
from sqlalchemy import insert, text, update
from sqlalchemy.exc import IntegrityError

from mendel.adapters.sql.registry_tables import tenures, versions
from mendel.errors import AlreadyExists, GenerationConflict
from mendel.registry import Registration
from mendel.values import Deployment, ModelName, Stage, VersionRef


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "tree")


@pytest.fixture
def model(request):
    return ModelName(request.node.name.split("[")[0].removeprefix("test_")[:60])


def write_tree(directory):
    directory.mkdir()
    (directory / "MLmodel").write_text("flavors: {sklearn: {}}\n")
    (directory / "model.joblib").write_bytes(b"weights")
    return directory


def ready(registry, model, tree):
    record = registry.versions.register(Registration(model=model, flavor="sklearn", task="binary"), tree)
    registry.lifecycle.transition(record.ref, Stage.SANDBOX, by="ann", without_parity="no rows")
    return registry.lifecycle.approve(record.ref, policy=True, bias=True, by="ann")


def promoted(registry, model, tree, count):
    for _ in range(count):
        registry.lifecycle.promote(ready(registry, model, tree).ref, by="ann")


def test_a_version_is_an_mlflow_version(registry, artifacts, model, tree):
    """Uuid and number are MLflow's, the alias follows production through promotion and rollback."""
    promoted(registry, model, tree, 2)
    record = registry.versions.get(VersionRef(model, 2))
    client = artifacts._client
    assert client.get_model_version(model, "2").source == f"models:/{record.uuid}"
    registry.artifact_mirror.mirror(model)
    assert client.get_model_version_by_alias(model, "production").version == 2
    registry.lifecycle.roll_back(model, by="healing", reason="r")
    registry.artifact_mirror.mirror(model)
    assert client.get_model_version_by_alias(model, "production").version == 1
    assert client.get_model_version(model, "2").tags["mendel.stage"] == "rollback"
    result = registry.versions.registered(record.ref)
    assert result.mlflow_version == "3.17.2"
    assert Path(result.artifact_path) == registry.versions.tree(record.ref)


@pytest.mark.slow
def test_mlflow_loads_what_was_registered(registry, artifacts, model, tmp_path):
    """A scikit-learn model that MLflow saved loads through models:/ and predicts as before, in another process."""
    import mlflow.sklearn  # noqa: PLC0415 - heavy, for this test only

    script = """
        import sys, warnings
        warnings.simplefilter("ignore")
        import mlflow.sklearn
        uri, *places = sys.argv[1:]
        mlflow.set_tracking_uri(uri)
        for place in places:
            print(mlflow.sklearn.load_model(place).predict([[0.0], [1.0], [2.0], [3.0]]).tolist())
    """
    fitted = LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
    how = {"pip_requirements": ["scikit-learn"], "serialization_format": "cloudpickle"}
    with warnings.catch_warnings(action="ignore"):
        mlflow.sklearn.save_model(fitted, tmp_path / "saved", **how)
    record = registry.versions.register(Registration(model=model, flavor="sklearn", task="binary"), tmp_path / "saved")
    loaded = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), artifacts._uri, f"models:/{record.uuid}", f"models:/{model}/1"],
        capture_output=True,
        text=True,
        timeout=100,
        env={"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true", "PATH": "/usr/bin"},
        check=False,
    )
    assert loaded.stdout.split("\n")[:2] == ["[0, 0, 1, 1]"] * 2, loaded.stderr


def test_a_poisoned_pickle_never_runs(registry, model, tree, tmp_path):
    """With MLflow in the process, registering and promoting a malicious pickle does not execute it."""
    trap = tmp_path / "sprung"

    class Poison:
        def __reduce__(self):
            return (Path.touch, (trap,))

    (tree / "model.joblib").write_bytes(pickle.dumps(Poison()))
    promoted(registry, model, tree, 1)
    registry.artifact_mirror.mirror(model)
    registry.versions.registered(VersionRef(model, 1))
    assert not trap.exists()


def test_concurrent_registrations_are_numbered_without_gaps(registry, model, tree):
    """Eight threads that register at once make eight versions, 1 to 8."""
    request = Registration(model=model, flavor="sklearn", task="binary")
    with ThreadPoolExecutor(8) as pool:
        numbers = sorted(r.number for r in pool.map(lambda _: registry.versions.register(request, tree), range(8)))
    assert numbers == list(range(1, 9))


def test_concurrent_registrations_of_one_key_are_one_version(registry, artifacts, model, tree):
    """Eight threads with one key make one version, here and in MLflow."""
    request = Registration(model=model, flavor="sklearn", task="binary", idempotency_key="k")
    with ThreadPoolExecutor(8) as pool:
        uuids = {r.uuid for r in pool.map(lambda _: registry.versions.register(request, tree), range(8))}
    assert len(uuids) == 1
    assert len(artifacts._client.search_model_versions(f"name='{model}'")) == 1


def test_of_many_concurrent_promotions_one_wins(registry, model, tree):
    """Promotions under one generation from many threads: one wins, all others get GenerationConflict."""
    refs = [ready(registry, model, tree).ref for _ in range(6)]

    def promote(ref):
        try:
            return registry.lifecycle.promote(ref, by="ann", expected_generation=0)
        except GenerationConflict as conflict:
            return conflict

    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(promote, refs))
    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, Deployment)]
    assert registry.lifecycle.deployment(model) == winner
    stages = [record.stage for record in registry.versions.of(model)]
    assert stages.count(Stage.PRODUCTION) == 1


class TestConstraints:
    """The database itself refuses what the code would never ask for."""

    def test_two_production_versions(self, registry, engine, tree):
        """A hand-written UPDATE cannot make a second production version."""
        model = ModelName("constraint-production")
        promoted(registry, model, tree, 2)
        change = update(versions).where(versions.c.model == model, versions.c.number == 1)
        with pytest.raises(IntegrityError), engine.begin() as connection:
            connection.execute(change.values(stage="production"))

    def test_an_unknown_stage(self, registry, engine, tree):
        """A hand-written UPDATE cannot invent a stage."""
        model = ModelName("constraint-stage")
        promoted(registry, model, tree, 1)
        with pytest.raises(IntegrityError), engine.begin() as connection:
            connection.execute(update(versions).values(stage="archived"))

    def test_two_open_tenures(self, registry, engine, tree):
        """A hand-written INSERT cannot open a second tenure, nor one of a version that does not exist."""
        model = ModelName("constraint-tenure")
        promoted(registry, model, tree, 1)
        row = {"model": model, "version": 1, "start_at": 1, "actor": "x", "reason": "x", "start_event": "x"}
        for changed in ({}, {"version": 99, "end_at": 2, "end_event": "x"}):
            with pytest.raises(IntegrityError), engine.begin() as connection:
                connection.execute(insert(tenures), {**row, **changed})


KILLED = """
    import os, random, signal, sys, traceback
    from datetime import UTC, datetime
    from pathlib import Path

    import mlflow.store.model_registry.sqlalchemy_store, mlflow.store.tracking.sqlalchemy_store
    from mendel.adapters.mlflow import MlflowArtifacts
    from mendel.adapters.sql import SqlUnitOfWork, open_engine, prepare_schema
    from mendel.adapters.sql.registry import STORES
    from mendel.registry import Registration, Registry
    from mendel.values import ModelName

    root, mlflow, tree, *points = sys.argv[1:]

    def killing(owner, name, *, after):
        inner = getattr(owner, name)
        def wrapped(*args, **kwargs):
            if after:
                inner(*args, **kwargs)
            os.kill(os.getpid(), signal.SIGKILL)
        setattr(owner, name, wrapped)

    def register(point):
        artifacts = MlflowArtifacts(f"sqlite:///{mlflow}/mlflow.db", Path(mlflow) / "artifacts")
        engine = open_engine(Path(root) / f"{point}.db")
        prepare_schema(engine)
        unit = SqlUnitOfWork(engine, STORES, rng=random.Random(0))
        registry = Registry(unit, artifacts, lambda: datetime.now(UTC), lambda: os.urandom(8).hex())
        name, _, when = point.partition(":")
        owner = registry.versions if name == "_end" else artifacts if hasattr(artifacts, name) else artifacts._client
        killing(owner, name, after=when == "after")
        model = "killed-" + point.replace(":", "-").replace("_", "-").strip("-")
        registry.versions.register(
            Registration(model=ModelName(model), flavor="sklearn", task="binary", idempotency_key="k"), Path(tree)
        )

    for point in points:
        pid = os.fork()
        if pid == 0:
            try:
                register(point)
            except Exception:
                traceback.print_exc()
            os._exit(1)
        ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert ended == -signal.SIGKILL, f"{point} ended with {ended}"
"""
POINTS = [
    "publish:before",
    "create_run:after",
    "create_logged_model:after",
    "log_model_artifacts:after",
    "finalize_logged_model:after",
    "create_model_version:after",
    "_end:before",
]


@pytest.fixture(scope="module")
def killed(tmp_path_factory, artifacts, mlflow_directory):
    """
    A directory with a database for each point, at which a process was killed while it registered the tree ``tree``.

    The processes are forked from one, so that MLflow is imported once.
    """
    root = tmp_path_factory.mktemp("killed")
    write_tree(root / "tree")
    artifacts.open()
    program = [sys.executable, "-c", textwrap.dedent(KILLED), root, mlflow_directory, root / "tree", *POINTS]
    done = subprocess.run(program, capture_output=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return root


@pytest.mark.parametrize("point", POINTS)
def test_killed_while_registering(killed, open_registry, artifacts, tree, point):
    """Killed at any point, nothing is listed; the same call again ends as if nothing had happened."""
    model = ModelName("killed-" + point.replace(":", "-").replace("_", "-").strip("-"))
    registry = open_registry(killed / f"{point}.db")
    assert model not in registry.versions.models()
    request = Registration(model=model, flavor="sklearn", task="binary", idempotency_key="k")
    record = registry.versions.register(request, tree)
    assert registry.versions.register(request, tree) == record
    assert (
        [int(v.version) for v in artifacts._client.search_model_versions(f"name='{model}'")] == [1] == [record.number]
    )
    assert len(artifacts._all_logged(f"{model}/k")) == 1
    assert registry.foreign.of(model) == ()
    (tree / "other").write_text("content")
    with pytest.raises(AlreadyExists):
        registry.versions.register(request, tree)


@pytest.mark.race
def test_registering_is_quick(registry, model, tree):
    """Registering takes well under the 0.3 s of the design, once warm."""
    request = Registration(model=model, flavor="sklearn", task="binary", metrics={"f1": 0.9})
    registry.versions.register(request, tree)
    spans = []
    for _ in range(5):
        begun = time.perf_counter()
        registry.versions.register(request, tree)
        spans.append(time.perf_counter() - begun)
    assert statistics.median(spans) < 1.0  # loose: the machine is shared


def test_lookup_by_uuid_uses_an_index(registry, engine, model, tree):
    """Finding a version by uuid searches an index, not the table."""
    ready(registry, model, tree)
    with engine.connect() as connection:
        plan = connection.execute(text("EXPLAIN QUERY PLAN SELECT body FROM versions WHERE uuid = 'm-0'")).all()
    assert "USING INDEX" in str(plan)
