"""The contract of Backend, over the table of backends, with tiny real models."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mendel.app.server.backend_table import BACKENDS
from mendel.errors import DeadlineExceeded, DigestMismatch, ModelFailed, ModelNotLoadable
from mendel.projects import Project, load_project
from mendel.serving import Backend, Frame, TrainedClassifier, frame_of, write_artifact
from mendel.values import Digest, Table

MODELS = """
import sys
import time
from pathlib import Path
import numpy as np

class Sum:
    def __init__(self, model_dir=None):
        self.closed = Path(model_dir).parent / "closed"
    def predict(self, X):
        return X.sum(axis=1)
    def close(self):
        self.closed.write_text(str(self.closed.exists()))

class Slow(Sum):
    def predict(self, X):
        time.sleep(0.2)
        return super().predict(X)

class Classes:
    classes_ = np.array(["no", "yes"])
    def predict(self, X):
        return self.classes_[(X[:, 0] > 1).astype(int)]
    def predict_proba(self, X):
        return np.column_stack([1 - X[:, 0] / 4, X[:, 0] / 4])

class Raising(Sum):
    def predict(self, X):
        if X[0, 0] == 1:
            raise RuntimeError("negative")
        if X[0, 0] == 2:
            sys.exit(3)
        if X[0, 0] == 3:
            raise KeyboardInterrupt
        return super().predict(X)

class Short(Sum):
    def predict(self, X):
        return super().predict(X)[:-1]

class Strange(Sum):
    def predict(self, X):
        return [object() for _ in X]

class Quitting:
    def __init__(self):
        sys.exit("no licence")
    def predict(self, X):
        return X
"""
KINDS = ("Sum", "Slow", "Classes", "Raising", "Short", "Strange", "Quitting")


@dataclass(frozen=True)
class Workshop:
    """A project with every kind of model, and their artefacts."""

    project: Project
    directory: Path

    def artifact(self, kind: str) -> tuple[Path, Digest]:
        directory = self.directory / kind / "artifact"
        return directory, write_artifact(TrainedClassifier(name=kind.lower()), directory, project=self.project)


@pytest.fixture
def workshop(tmp_path):
    (tmp_path / "models.py").write_text(MODELS)
    api = "api: {thread_safe_predict: true, max_concurrent_predictions: 3}"
    sections = [f"  {kind.lower()}: {{predictor: {{module: models, class_name: {kind}}}, {api}}}" for kind in KINDS]
    (tmp_path / "mlserver.yaml").write_text("\n".join(["classifiers:", *sections]))
    return Workshop(load_project(tmp_path), tmp_path)


@pytest.fixture(params=BACKENDS)
def load(request, workshop):
    """Loads a model of a kind into a backend; all are killed in the end."""
    loaded: list[Backend] = []

    def load_(kind: str, expect: Digest | None = None) -> Backend:
        directory, digest = workshop.artifact(kind)
        digest = expect or digest
        loaded.append(BACKENDS[request.param]()(directory, digest=digest, project=workshop.project))
        return loaded[-1]

    yield load_
    for backend in loaded:
        backend.kill()


def frame(*first: float) -> Frame:
    """Rows whose first value is given; the second is 10."""
    return frame_of(Table({"a": np.array(first), "b": np.full(len(first), 10.0)}), None)


def soon() -> float:
    return time.monotonic() + 30


def test_a_right_model_answers_every_row_in_order(load):
    """Predictions, probabilities and what the descriptor says of them."""
    backend = load("Classes")
    outputs = backend.predict(frame(0, 2, 1, 4), soon())
    assert outputs.predictions == ["no", "yes", "no", "yes"]
    np.testing.assert_allclose(outputs.matrix, [[1, 0], [0.5, 0.5], [0.75, 0.25], [0, 1]])
    assert (backend.descriptor.class_name, backend.descriptor.module) == ("Classes", "models")
    assert (backend.descriptor.classes, backend.descriptor.proba) == (("no", "yes"), True)
    assert backend.died is None


def test_calls_at_once_get_their_own_answers(load):
    """As many threads as the descriptor allows may call, and none gets the answer of another."""
    backend = load("Slow")
    assert backend.descriptor.width == 3
    with ThreadPoolExecutor(3) as threads:
        answers = threads.map(lambda place: backend.predict(frame(place), soon()).predictions, range(6))
        assert list(answers) == [[place + 10.0] for place in range(6)]


@pytest.mark.parametrize(
    ("first", "cause"), [(1, "RuntimeError: negative"), (2, "SystemExit: 3"), (3, "KeyboardInterrupt")]
)
def test_whatever_a_model_raises_is_its_own_fault(load, first, cause):
    """Exception, exit and interrupt are a ModelFailed with the cause; a backend that lives answers the next call."""
    backend = load("Raising")
    with pytest.raises(ModelFailed, match=cause):
        backend.predict(frame(first), soon())
    if backend.died is None:
        assert backend.predict(frame(5), soon()).predictions == [15.0]


@pytest.mark.parametrize(("kind", "cause"), [("Short", "returned 1 answers for 2 rows"), ("Strange", "object")])
def test_an_answer_that_does_not_fit_is_the_models_fault(load, kind, cause):
    """Too few rows, and values that JSON cannot carry, are a ModelFailed."""
    with pytest.raises(ModelFailed, match=cause):
        load(kind).predict(frame(1, 2), soon())


def test_a_passed_deadline_gives_the_right_answer_or_none(load):
    """A slow call past its deadline is stopped, or answers late; it is never the model's fault."""
    backend = load("Slow")
    with suppress(DeadlineExceeded):
        assert backend.predict(frame(1), time.monotonic() + 0.01).predictions == [11.0]


def test_a_killed_backend_has_died_and_gave_everything_back(load, workshop):
    """Killing closes the model once, says why it died, and refuses every further call."""
    backend = load("Sum")
    assert backend.predict(frame(1), soon()).predictions == [11.0]
    backend.kill()
    backend.kill()
    assert backend.died
    with pytest.raises(ModelFailed):
        backend.predict(frame(1), soon())
    assert (workshop.directory / "Sum" / "closed").read_text() == "False"


def test_other_content_is_not_loaded(load, workshop):
    """A changed artefact is a DigestMismatch before anything of it is read."""
    _, other = workshop.artifact("Slow")
    with pytest.raises(DigestMismatch):
        load("Sum", expect=other)


def test_a_model_that_cannot_be_built_is_not_loadable(load):
    """A constructor that ends the program is a ModelNotLoadable, with its words in the detail alone."""
    with pytest.raises(ModelNotLoadable, match="failed with SystemExit") as caught:
        load("Quitting")
    assert "no licence" in caught.value.detail
