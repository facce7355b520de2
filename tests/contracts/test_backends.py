"""The contract of Backend, over the table of backends, with tiny real models."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator

from mendel.app.images.environments import LockEnvironments
from mendel.app.server.backend_table import BACKENDS, BackendContext
from mendel.errors import DeadlineExceeded, DigestMismatch, ModelFailed, ModelNotLoadable, ModelStopped, NotReady
from mendel.projects import Project, load_project
from mendel.serving import (
    Backend,
    Frame,
    Records,
    ServingPolicy,
    TrainedClassifier,
    frame_of,
    model_program,
    write_artifact,
)
from mendel.serving.input_codec import InputCodec
from mendel.serving.row_batches import assemble
from mendel.values import Digest, Table
from support.model_hosts import model_host
from support.remote_peers import remote_peer, write_remote
from support.waiting import until

MODELS = """
import ctypes
import os
import signal
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

class Ending(Sum):
    held = []
    def predict(self, X):
        if X[0, 0] == 1:
            os._exit(7)
        if X[0, 0] == 2:
            ctypes.string_at(0)
        if X[0, 0] == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if X[0, 0] == 4:
            time.sleep(60)
        if X[0, 0] == 5:
            np.empty(1 << 30)
        if X[0, 0] == 6:
            print("a caller's value")
        if X[0, 0] == 7:
            self.held.append(np.ones(5 << 20))
        return super().predict(X)

class Configured(Sum):
    def __init__(self, model_dir=None, days=None):
        super().__init__(model_dir)
        self.classes_ = [np.int64(0), np.int64(1)]
        self.days = days
    def predict(self, X):
        return [int(self.days[int(x)].year == 2024) for x in X[:, 0]]

class Vanishing:
    def __init__(self):
        os._exit(0)
    def predict(self, X):
        return X

class Outsider(Vanishing):
    def __init__(self):
        os.kill(os.getpid(), signal.SIGKILL)

class Quitting:
    def __init__(self):
        sys.exit("no licence")
    def predict(self, X):
        return X
"""
KINDS = (
    "Configured",
    "Sum",
    "Slow",
    "Classes",
    "Raising",
    "Short",
    "Strange",
    "Ending",
    "Vanishing",
    "Outsider",
    "Quitting",
)
OWN_PYTHON = LockEnvironments(Path, builds=False)
POLICY = ServingPolicy(predict_timeout=timedelta(seconds=1), model_memory_bytes=60 << 20)
ISOLATED = ["process"]
"""The backends that run models in processes of their own on this machine."""
LOCAL = [kind for kind in BACKENDS if kind != "remote"]
"""The backends that load the model themselves."""
CLASSES = {"Classes": ("no", "yes"), "Configured": (0, 1)}
"""The classes that the artefact of a remote model states, because its server does not tell them."""


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
    given = {"Configured": ", init_kwargs: {days: {1: 2023-01-02, 2: 2024-01-02}}"}
    sections = [
        f"  {kind.lower()}: {{predictor: {{module: models, class_name: {kind}{given.get(kind, '')}}}, {api}}}"
        for kind in KINDS
    ]
    (tmp_path / "mlserver.yaml").write_text("\n".join(["classifiers:", *sections]))
    return Workshop(load_project(tmp_path), tmp_path)


@pytest.fixture(scope="module")
def run():
    with model_host() as directory:
        yield directory


@pytest.fixture(params=BACKENDS)
def load(request, workshop, run):
    """Loads a model of a kind into a backend; all are killed in the end. Remote models run in a server beside it."""
    loaded: list[Backend] = []
    loads = BACKENDS[request.param](BackendContext(run=run, policy=POLICY, environments=OWN_PYTHON))
    with ExitStack() as stack:
        peer = stack.enter_context(remote_peer("grpc", project=workshop.project)) if request.param == "remote" else None

        def load_(kind: str, expect: Digest | None = None) -> Backend:
            directory, digest = workshop.artifact(kind)
            if peer is not None:
                peer.serve(kind.lower(), directory, digest)
                directory = workshop.directory / kind / "remote"
                digest = write_remote(directory, peer.address("grpc"), model=kind.lower(), classes=CLASSES.get(kind))
            loaded.append(loads(directory, digest=expect or digest, project=workshop.project))
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
    named = (backend.descriptor.class_name, backend.descriptor.module)
    assert named == ("Classes", "models") or backend.place.backend == "remote"
    assert (backend.descriptor.classes, backend.descriptor.proba) == (("no", "yes"), True)
    assert backend.died is None


def test_arguments_and_classes_keep_their_types(load):
    """Keys that are numbers and dates arrive as they are; classes of numpy are told as numbers."""
    backend = load("Configured")
    assert backend.descriptor.classes == (0, 1)
    assert backend.predict(frame(1, 2), soon()).predictions == [0, 1]


def test_calls_at_once_get_their_own_answers(load):
    """As many threads as the descriptor allows may call, and none gets the answer of another."""
    backend = load("Slow")
    assert backend.descriptor.width == 3 or backend.place.backend == "remote"
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
    """Killing closes a model that was loaded here once, says why it died, and refuses every further call."""
    backend = load("Sum")
    assert backend.predict(frame(1), soon()).predictions == [11.0]
    backend.kill()
    backend.kill()
    assert backend.died
    with pytest.raises(ModelFailed):
        backend.predict(frame(1), soon())
    if backend.place.backend != "remote":
        assert (workshop.directory / "Sum" / "closed").read_text() == "False"


def test_other_content_is_not_loaded(load, workshop):
    """A changed artefact is a DigestMismatch before anything of it is read."""
    _, other = workshop.artifact("Slow")
    with pytest.raises(DigestMismatch):
        load("Sum", expect=other)


@pytest.mark.parametrize("load", LOCAL, indirect=True)
def test_a_model_that_cannot_be_built_is_not_loadable(load):
    """A constructor that ends the program is a ModelNotLoadable, with its words in the detail alone."""
    with pytest.raises(ModelNotLoadable, match="failed with SystemExit") as caught:
        load("Quitting")
    assert "no licence" in caught.value.detail


isolated = pytest.mark.parametrize("load", ISOLATED, indirect=True)


@isolated
@pytest.mark.parametrize(
    ("first", "cause"),
    [
        (1, "exit code 7"),
        (2, "SIGSEGV"),
        (4, "took longer than 1 s"),
        (5, "MemoryError"),
    ],
)
def test_a_model_that_ends_its_process_costs_one_call(load, first, cause):
    """Exit, crash and hang fail that call with the cause, and a new process answers; so does a refused allocation."""
    backend = load("Ending")
    with pytest.raises(ModelFailed, match=cause) as caught:
        backend.predict(frame(first, 0), soon())
    assert first == 5 or isinstance(caught.value, ModelStopped)
    assert backend.predict(frame(0), soon()).predictions == [10.0]
    assert (backend.died, backend.place.restarts) == (None, int(first != 5))


@isolated
def test_a_kill_from_outside_is_not_the_versions_fault_unless_it_repeats(load):
    """A call whose process was killed can be repeated; at the third end in a row the version is blamed."""
    backend = load("Ending")
    for error in (NotReady, NotReady, ModelStopped):
        until(lambda: backend.died is None)
        with pytest.raises(error, match="SIGKILL"):
            backend.predict(frame(3), soon())
    until(lambda: backend.died is None)
    assert backend.predict(frame(0), soon()).predictions == [10.0]


@isolated
def test_a_process_that_leaks_is_replaced(load):
    """A process that holds more than its limit is ended and started again, and the next call is answered."""
    backend = load("Ending")
    with suppress(ModelStopped):
        assert backend.predict(frame(7), soon()).predictions == [17.0]
    until(lambda: backend.place.restarts == 1)
    assert backend.predict(frame(0), soon()).predictions == [10.0]


@isolated
def test_a_process_killed_between_calls_costs_no_call(load):
    """A process that is killed while no call runs is told until it is back, and the next call waits for it."""
    backend = load("Sum")
    first = backend.place.pid
    os.kill(first, signal.SIGKILL)
    until(lambda: backend.died or backend.place.pid != first)
    assert backend.predict(frame(1), soon()).predictions == [11.0]
    assert backend.place.pid != first
    assert backend.place.restarts == 1


@isolated
def test_what_a_model_prints_is_no_answer(load):
    """Output of the model reaches neither the protocol nor the next answer."""
    assert load("Ending").predict(frame(6), soon()).predictions == [16.0]


@isolated
@pytest.mark.parametrize(
    ("kind", "error", "cause"), [("Vanishing", ModelNotLoadable, "exit code 0"), ("Outsider", NotReady, "SIGKILL")]
)
def test_a_load_that_ends_its_process_is_told(load, kind, error, cause):
    """The end of the process is the version's fault, unless somebody else may have killed the process."""
    with pytest.raises(error, match=cause):
        load(kind)


@isolated
def test_equal_loads_share_a_process_until_the_last_is_killed(load):
    """One process serves all workers of a server; killing the last backend ends it and gives its memory back."""
    one, other = load("Slow"), load("Slow")
    pid = one.place.pid
    assert one.place == other.place
    assert one.place.memory_bytes > 0
    with ThreadPoolExecutor(2) as threads:
        answers = [threads.submit(backend.predict, frame(1), soon()) for backend in (one, other)]
        assert [answer.result().predictions for answer in answers] == [[11.0], [11.0]]
    one.kill()
    assert other.predict(frame(2), soon()).predictions == [12.0]
    other.kill()
    assert model_program.resident_bytes(str(pid)) is None


FRAME = pd.DataFrame(
    {
        "count": np.array([2**53 + 1, 2, 3, 4] * 5),
        "city": ["Bonn", None, "Köln", "Bonn"] * 5,
        "kind": pd.Categorical(["x", "y", "x", "z"] * 5),
        "share": np.array([0.5, np.nan, 1.5, 2.5] * 5, dtype=np.float32),
        "at": pd.date_range("2024-01-01", periods=20, tz="Europe/Berlin"),
    }
)


class Told(BaseEstimator):
    """Answers what it was given: container, types and values."""

    def fit(self, X, y=None):  # noqa: N803 - scikit-learn names it
        self.feature_names_in_ = np.array(X.columns, dtype=object)
        return self

    def predict(self, X):  # noqa: N803
        types = [str(dtype) for dtype in X.dtypes]
        return np.array([repr((type(X).__name__, types, row)) for row in X.astype(object).to_numpy().tolist()])


@pytest.mark.parametrize("kind", ["estimator", "booster"])
def test_every_backend_gives_the_model_the_same_rows(workshop, run, kind):
    """Types, nulls, order and values of the frame, and the answers of a booster, are equal in every backend."""
    directory = workshop.directory / kind
    if kind == "estimator":
        digest = write_artifact(Told().fit(FRAME), directory, training=FRAME)
        example, classes = FRAME, None
        first = {"count": 2**53 + 1, "city": "Bonn", "kind": "x", "share": 0.5, "at": "2024-01-05T10:00:00+01:00"}
        rows = Records(rows=[first, {**first, "city": None, "share": None, "kind": "z"}])
    else:
        xgboost = pytest.importorskip("xgboost", reason='install "mendel[xgboost]"')
        values = np.random.default_rng(0).normal(size=(40, 3))
        model = xgboost.XGBClassifier(n_estimators=3, n_jobs=1).fit(values, (values[:, 0] > 0).astype(int))
        example, classes = Table(dict(zip("abc", values.T, strict=True))), (0, 1)
        digest = write_artifact(model, directory, training=example)
        rows = Records(rows=[dict(zip("abc", row, strict=True)) for row in values[:5].tolist()])
    answers = []
    with remote_peer() as peer:
        peer.serve("told", directory, digest)
        for place, load in BACKENDS.items():
            tree = directory
            if place == "remote":
                tree = directory.with_name(f"{kind}-remote")
                write_remote(tree, peer.address(), model="told", input_example=example, classes=classes)
            context = BackendContext(run=run, policy=ServingPolicy(), environments=OWN_PYTHON)
            backend = load(context)(tree, digest=None, project=None)
            try:
                contract, order = backend.descriptor.contract, backend.descriptor.order
                decoded = InputCodec(contract, order=order, max_rows=10).decode(rows)
                answers.append(backend.predict(assemble([decoded]), soon()))
            finally:
                backend.kill()
    for answer in answers[1:]:
        assert answer.predictions == answers[0].predictions
        assert answer.probabilities == answers[0].probabilities
