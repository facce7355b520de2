"""Tiny real models, artefacts and deployments of them, and a kernel that serves them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mendel.adapters.threads import load_in_thread
from mendel.errors import ArtifactNotFound
from mendel.predictions import Spool
from mendel.projects import load_project
from mendel.serving import (
    Kernel,
    LocalBreakers,
    LocalCounters,
    ServingPolicy,
    TrainedClassifier,
    infer_signature,
    write_artifact,
)
from mendel.values import (
    Deployment,
    DesiredModel,
    DesiredState,
    Digest,
    ModelName,
    Route,
    ServedVersion,
    Signature,
    Table,
    VersionUuid,
)

MODELS = '''
import threading
import time
from pathlib import Path

import numpy as np


class Sum:
    """Adds up a row, and the bias of its version."""

    def __init__(self, model_dir=None):
        bias = Path(model_dir) / "bias.txt" if model_dir else None
        self.bias = float(bias.read_text()) if bias and bias.exists() else 0.0

    def predict(self, X):
        return X.sum(axis=1) + self.bias


class Held(Sum):
    """Answers rows that are not its golden input only while `Shelf.let_go` says so."""

    def __init__(self, model_dir=None):
        super().__init__(model_dir)
        self.free = Path(model_dir).parent / "free" if model_dir else Path("absent")

    def predict(self, X):
        end = time.monotonic() + 30
        while not (X == 0).all() and not self.free.exists() and time.monotonic() < end:
            time.sleep(0.002)
        return super().predict(X)


class Failing(Sum):
    """Raises when a row begins with a negative number."""

    def predict(self, X):
        if (X[:, 0] < 0).any():
            raise RuntimeError("negative")
        return super().predict(X)


class Proba:
    """Knows two classes."""

    classes_ = np.array(["no", "yes"])

    def predict(self, X):
        return self.classes_[(X.sum(axis=1) > 0).astype(int)]

    def predict_proba(self, X):
        p = 1 / (1 + np.exp(-X.sum(axis=1)))
        return np.column_stack([1 - p, p])


class Zero:
    """Answers anything with 0."""

    def predict(self, X):
        return np.zeros(len(X))


class Broken(Sum):
    """Cannot answer its golden input."""

    def predict(self, X):
        raise ValueError("broken")
'''
CLASSES = {"sum": "Sum", "held": "Held", "failing": "Failing", "proba": "Proba", "broken": "Broken", "zero": "Zero"}
NAMES = ("a", "b", "c")


@dataclass
class Shelf:
    """Artefacts by digest, and desired states that name them."""

    directory: Path
    trees: dict[str, Path] = field(default_factory=dict)
    served: dict[tuple[str, int], ServedVersion] = field(default_factory=dict)
    revisions: Any = field(default_factory=count)

    def fetch(self, digest: Digest) -> Path:
        if digest not in self.trees:
            raise ArtifactNotFound(f"No artefact {digest}.")
        return self.trees[digest]

    def let_go(self) -> None:
        """Let models that are held answer."""
        (self.directory / "free").touch()

    def hold(self) -> None:
        """Let them answer no more."""
        (self.directory / "free").unlink()

    def put(self, model: str, number: int, *, kind: str | None = None, bias: float = 0.0) -> ServedVersion:
        """Write version *number* of *model*, an object of the class for *kind*."""
        tree = self.directory / f"{model}-{number}"
        tree.mkdir()
        (tree / "bias.txt").write_text(str(bias))
        signature = infer_signature(Table({name: np.zeros(1) for name in NAMES}))
        digest = write_artifact(
            TrainedClassifier(name=kind or model),
            tree,
            project=load_project(self.directory / "project"),
            signature=signature,
            input_example=Table({name: np.zeros(1) for name in NAMES}),
        )
        self.trees[digest] = tree
        served = served_version(number, digest, signature)
        self.served[model, number] = served
        return served

    def desire(self, *deployments: Deployment, keys: dict[str, tuple[str, ...]] | None = None) -> DesiredState:
        models = tuple(
            DesiredModel(
                deployment=deployment,
                versions=tuple(self.served[deployment.model, number] for number in deployment.versions),
            )
            for deployment in deployments
        )
        return DesiredState(revision=next(self.revisions), models=models, key_hashes=keys or {})


def served_version(number: int, digest: Digest, signature: Signature) -> ServedVersion:
    return ServedVersion(
        number=number,
        uuid=VersionUuid(f"m-{number:032x}"),
        artifact_digest=digest,
        flavor="mendel",
        signature=signature,
        task="regression",
        registered_at=datetime.now(UTC),
    )


def deployed(model: str, version: int = 1, generation: int = 1, **more: Any) -> Deployment:
    routes = (Route(version=version, share=1.0),)
    return Deployment(model=ModelName(model), generation=generation, **{"routes": routes, **more})


def write_project(directory: Path) -> None:
    """Write the project whose classifiers are the models."""
    project = directory / "project"
    project.mkdir()
    (project / "models.py").write_text(MODELS)
    sections = "".join(
        f"  {name}:\n    predictor:\n      module: models\n      class_name: {kind}\n" for name, kind in CLASSES.items()
    )
    (project / "mlserver.yaml").write_text(f"classifiers:\n{sections}")


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """No artefact yet, and the project of the models."""
    write_project(tmp_path)
    return Shelf(tmp_path)


def clock() -> datetime:
    return datetime.now(UTC)


def new_kernel(shelf: Shelf | None, policy: ServingPolicy | None = None, **given: Any) -> Kernel:
    """A kernel that serves what *shelf* holds; what is *given* replaces its parts, and the project without a shelf."""
    policy = policy or ServingPolicy()
    parts = {
        "load_backend": load_in_thread,
        "sink": None,
        "counters": LocalCounters(),
        "breakers": LocalBreakers(policy.breaker, clock),
        "clock": clock,
        "rng": random.Random(0),
        "project": None if shelf is None else load_project(shelf.directory / "project"),
    }
    return Kernel(policy, **{**parts, **given})


@pytest.fixture
def make_kernel(shelf: Shelf):
    """Makes kernels over the shelf."""

    def make(policy: ServingPolicy | None = None, **given: Any) -> Kernel:
        return new_kernel(shelf, policy, **given)

    return make


@pytest.fixture
def spool(tmp_path: Path):
    with Spool(tmp_path / "spool", "test-spool") as opened:
        yield opened


@pytest.fixture
def at():
    """Deployments: ``at("sum", 2, generation=3)``."""
    return deployed
