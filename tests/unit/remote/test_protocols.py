"""Remote models over every protocol, against a real server."""

from __future__ import annotations

import hashlib
import time

import numpy as np
import pandas as pd
import pytest

from mendel.adapters.remote import announced_signature, announced_task, discover
from mendel.errors import ModelFailed, ModelNotLoadable, NotReady
from mendel.projects import load_project
from mendel.serving import Records, RemoteModel, TrainedClassifier, frame_of, write_artifact
from mendel.serving.input_codec import InputCodec
from mendel.serving.row_batches import assemble
from mendel.values import Table
from support.remote_peers import remote_peer

MODELS = """
import time
import numpy as np

class Classes:
    classes_ = np.array(["no", "yes"])
    def predict(self, X):
        return self.classes_[(X["amount"] > 1).astype(int)]
    def predict_proba(self, X):
        return np.column_stack([1 - X["amount"] / 4, X["amount"] / 4])
    input_type = "dataframe"

class Told(Classes):
    predict_proba = None
    def predict(self, X):
        if X["amount"].iloc[0] == 3:
            raise RuntimeError("three")
        return [repr(row) for row in X.astype(object).to_numpy().tolist()]

class Nullable(Told):
    pass

class Numbers:
    def predict(self, X):
        return X @ np.array([[1.0, 0.5], [2.0, 0.25]])
"""
FRAME = pd.DataFrame(
    {
        "count": np.array([2**53 + 1, 2, 3]),
        "amount": [1.5, 0.5, 2.5],
        "city": ["Köln", "Bonn", ""],
        "at": pd.date_range("2024-01-01", periods=3),
        "vip": [True, False, True],
    }
)
NULLABLE = FRAME.assign(city=["Köln", None, ""])
DOORS = ("rest", "grpc", "zmq")


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    """A server of all models over every protocol."""
    directory = tmp_path_factory.mktemp("peer")
    (directory / "models.py").write_text(MODELS)
    kinds = {"Classes": FRAME, "Told": FRAME, "Nullable": NULLABLE, "Numbers": np.array([[1.0, 2.0]])}
    sections = [f"  {kind.lower()}: {{predictor: {{module: models, class_name: {kind}}}}}" for kind in kinds]
    (directory / "mlserver.yaml").write_text("\n".join(["classifiers:", *sections]))
    project = load_project(directory)
    with remote_peer(*DOORS, project=project) as peer:
        for kind, rows in kinds.items():
            tree = directory / kind
            model = TrainedClassifier(name=kind.lower())
            digest = write_artifact(model, tree, project=project, input_example=rows)
            peer.serve(kind.lower(), tree, digest)
        yield peer


def soon():
    return time.monotonic() + 20


def rows_of(backend, frame=FRAME):
    codec = InputCodec(backend.descriptor.contract, order=backend.descriptor.order, max_rows=10)
    sent = frame.astype(object).where(frame.notna(), None)
    records = [{**row, "at": row["at"].isoformat()} for row in sent.to_dict("records")]
    return assemble([codec.decode(Records(rows=records))])


@pytest.mark.parametrize("door", DOORS)
def test_classes_and_probabilities_arrive(peer, load, door):
    """Predictions and probabilities of every protocol are those of the model."""
    backend = load(peer.address(door), model="classes", classes=("no", "yes"), input_example=FRAME)
    outputs = backend.predict(rows_of(backend), soon())
    assert outputs.predictions == ["yes", "no", "yes"]
    np.testing.assert_allclose(outputs.matrix, [[0.625, 0.375], [0.875, 0.125], [0.375, 0.625]])
    assert backend.descriptor.proba


@pytest.mark.parametrize("door", DOORS)
def test_rows_keep_their_types(peer, load, door):
    """Whole numbers, texts, times and truth values arrive at the model as its own server gets them."""
    backend = load(peer.address(door), model="told", input_example=FRAME)
    expected = [repr(row) for row in FRAME.astype(object).to_numpy().tolist()]
    assert backend.predict(rows_of(backend), soon()).predictions == expected


@pytest.mark.parametrize("door", ["rest", "grpc"])
def test_the_columns_come_from_the_metadata(peer, load, door):
    """Without a signature of its own, the version takes the columns that the server announces."""
    told = discover(RemoteModel(servers=(peer.address(door),), model="classes"), environment={})
    signature = announced_signature(told)
    assert [(column.name, column.type.value) for column in signature.inputs] == [
        ("count", "long"), ("amount", "double"), ("city", "string"), ("at", "string"), ("vip", "boolean"),
    ]  # fmt: skip
    assert announced_task(told) == "classification"
    backend = load(peer.address(door), model="classes")
    assert backend.descriptor.contract.names == signature.names
    assert backend.descriptor.answers == (("BYTES", (-1,)), ("FP64", (-1, 2)))


@pytest.mark.parametrize("door", DOORS)
def test_lists_are_answers_too(peer, load, door):
    """A model that gives several numbers per row gives lists."""
    backend = load(peer.address(door), model="numbers")
    assert backend.descriptor.answers == (() if door == "zmq" else (("FP64", (-1, 2)),))
    rows = frame_of(Table({"x0": np.array([1.0, 0.0]), "x1": np.array([1.0, 2.0])}), None)
    assert backend.predict(rows, soon()).predictions == [[3.0, 0.75], [4.0, 0.5]]


@pytest.mark.parametrize("door", DOORS)
def test_a_model_that_raises_is_at_fault_over_every_protocol(peer, load, door):
    """The message reaches the caller; the kind, for logs, has no words of the model."""
    backend = load(peer.address(door), model="told", input_example=FRAME)
    with pytest.raises(ModelFailed, match="three") as caught:
        backend.predict(rows_of(backend, FRAME.assign(amount=3.0)), soon())
    assert "three" not in caught.value.kind + caught.value.at
    assert backend.died is None


@pytest.mark.parametrize("door", DOORS)
def test_an_unknown_model_is_told(peer, load, door):
    """A server without the model is no fault of the version, and the reason says so."""
    with pytest.raises(NotReady, match=r"has no (such )?model"):
        load(peer.address(door), model="absent")


@pytest.mark.parametrize("door", DOORS)
def test_a_server_that_is_not_there_is_told(load, free_port, door):
    """Nobody listens: the load says which server cannot be reached."""
    scheme = {"rest": "http"}.get(door, door)
    with pytest.raises(NotReady, match=f"{scheme}://127.0.0.1:{free_port}: it cannot be reached"):
        load(f"{scheme}://127.0.0.1:{free_port}")


def test_nulls_need_a_protocol_that_carries_them(peer, load):
    """A column that may be null is refused over gRPC when it is loaded, and answered over REST."""
    with pytest.raises(ModelNotLoadable, match="Column 'city' may be null"):
        load(peer.address("grpc"), model="nullable", input_example=NULLABLE)
    backend = load(peer.address(), model="nullable", input_example=NULLABLE)
    expected = [repr(row) for row in NULLABLE.astype(object).to_numpy().tolist()]
    assert backend.predict(rows_of(backend, NULLABLE), soon()).predictions == expected


def test_servers_of_several_protocols_share_a_model(peer, load):
    """One version may name servers of every protocol; each answers its share."""
    backend = load(*map(peer.address, DOORS), model="classes", input_example=FRAME)
    answers = [backend.predict(rows_of(backend), soon()).predictions for _ in range(6)]
    assert answers == [["yes", "no", "yes"]] * 6


@pytest.mark.parametrize("door", DOORS)
def test_a_key_opens_the_server(tmp_path, load, door):
    """A server that asks for keys answers the key in the variable, and the reason of a refusal names no key."""
    (tmp_path / "models.py").write_text(MODELS)
    (tmp_path / "mlserver.yaml").write_text(
        "classifiers:\n  numbers: {predictor: {module: models, class_name: Numbers}}"
    )
    project = load_project(tmp_path)
    digest = write_artifact(TrainedClassifier(name="numbers"), tmp_path / "numbers", project=project)
    with remote_peer(door, project=project) as peer:
        peer.keys = {hashlib.sha256(b"mk_right").hexdigest(): ("predict",)}
        peer.serve("numbers", tmp_path / "numbers", digest)
        given = {"model": "numbers", "key_variable": "REMOTE_MODEL_KEY"}
        with pytest.raises(NotReady) as caught:
            load(peer.address(door), environment={"REMOTE_MODEL_KEY": "mk_wrong"}, **given)
        assert "mk_wrong" not in str(caught.value)
        backend = load(peer.address(door), environment={"REMOTE_MODEL_KEY": "mk_right"}, **given)
        rows = frame_of(Table({"x0": np.array([1.0]), "x1": np.array([1.0])}), None)
        assert backend.predict(rows, soon()).predictions == [[3.0, 0.75]]
        backend.kill()
