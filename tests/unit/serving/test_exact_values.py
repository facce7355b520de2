"""Every value reaches the model exactly, and what it becomes depends on the input contract alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.base import BaseEstimator, RegressorMixin

from mendel.errors import InvalidInput, InvalidRequest, InvalidValue
from mendel.protos import open_inference_pb2 as v2
from mendel.serving import Records, Tensor, Tensors, write_artifact
from mendel.serving.artifact_loading import load_predictor
from mendel.serving.input_codec import InputCodec
from mendel.serving.input_contract import Container, InputContract
from mendel.serving.mlmodel import read_mlmodel
from mendel.serving.parity import check_parity
from mendel.serving.predictor import Predictor
from mendel.serving.probe_rows import read_probe
from mendel.serving.row_batches import assemble
from mendel.serving.tensors import datatype_of
from mendel.values import ColumnSpec, ColumnType, Deployment, ModelName, Route, ServedVersion, Signature, VersionUuid
from mendel.values.data_frames import as_table
from support.doors import connect, open_world
from support.served_models import make_kernel, shelf

__all__ = ["connect", "make_kernel", "open_world", "shelf"]
IDS = (2**63 + 5, 2**64 - 1, 7)
"""Three ids above what a signed number or a double can hold."""


class Digits(RegressorMixin, BaseEstimator):
    """Answers the last three decimal digits of the whole number that its one column holds."""

    def fit(self, x: Any, y: Any = None) -> Digits:
        del y
        self.n_features_in_ = x.shape[1]
        if hasattr(x, "columns"):
            self.feature_names_in_ = np.array(x.columns, dtype=object)
        return self

    def predict(self, x: Any) -> Any:
        column = x.iloc[:, 0] if hasattr(x, "iloc") else x[:, 0]
        whole = column if column.dtype.kind == "u" else column.astype("int64")
        return np.array([int(value) % 1000 for value in whole], dtype=np.float64)


def served(model: Any, directory: Path, training: Any) -> tuple[Predictor, InputCodec]:
    write_artifact(model, directory, training=training)
    predictor = load_predictor(directory, digest=None, project=None)
    codec = InputCodec(predictor.descriptor.contract, order=None, max_rows=100)
    report = check_parity(read_probe(directory), codec, predictor.predict, steady=lambda: 0.0)
    assert str(report).startswith("passed"), report
    return predictor, codec


def ask(answering: tuple[Predictor, InputCodec], *rows: dict[str, Any]) -> list[Any]:
    predictor, codec = answering
    return predictor.predict(assemble([codec.decode(Records(rows=list(rows)))])).predictions


NANOS = pd.DataFrame({"at": pd.to_datetime(["2024-01-01T00:00:00.123456789", "1969-12-31T23:59:59.000000001"])})


@pytest.mark.parametrize(
    "training",
    [NANOS, NANOS.assign(at=NANOS["at"].dt.tz_localize("Europe/Berlin")), NANOS.to_numpy()],
    ids=["frame", "zone", "array"],
)
def test_a_nanosecond_reaches_the_model(training, tmp_path):
    """Times of nanoseconds are exact, in the artefact's own probe rows, too."""
    answering = served(Digits().fit(training), tmp_path / "a", training)
    name = answering[1]._columns.names[0]
    assert ask(answering, {name: "2024-01-01T00:00:00.123456789"}, {name: "2024-01-01T00:00:00.1"}) == [789, 0]


@pytest.mark.parametrize(
    ("unit", "sent", "says"),
    [
        ("ns", "2024-01-01T00:00:00.1234567891", "finer than a nanosecond"),
        ("us", "2024-01-01T00:00:00.123456789", "finer than a microsecond"),
        ("ms", "2024-01-01T00:00:00.1234", "finer than a millisecond"),
        ("s", "2024-01-01T00:00:00.5", "finer than a second"),
        ("s", 1704067200.5, "finer than a second"),
    ],
)
def test_a_time_finer_than_its_column_is_refused(unit, sent, says, tmp_path):
    """Nothing is cut off silently."""
    training = pd.DataFrame({"at": NANOS["at"].dt.floor("s").astype(f"datetime64[{unit}]")})
    answering = served(Digits().fit(training), tmp_path / "a", training)
    with pytest.raises(InvalidRequest, match=says):
        ask(answering, {"at": sent})
    assert len(ask(answering, {"at": "2024-01-01T00:00:00.000000000"})) == 1


def test_a_time_is_logged_as_finely_as_it_was_sent(tmp_path):
    """The log has nine digits of a second where they matter, else six."""
    _, codec = served(Digits().fit(NANOS), tmp_path / "a", NANOS)
    sent = Records(rows=[{"at": "2024-01-01T00:00:00.000000001"}, {"at": "2024-01-01T00:00:00"}])
    assert assemble([codec.decode(sent)]).logged[0].tolist() == [
        "2024-01-01T00:00:00.000000001",
        "2024-01-01T00:00:00.000000",
    ]


@pytest.mark.parametrize("values", [["Ulm"], [None], ["Ulm", None]], ids=["text", "null", "both"])
def test_the_type_of_a_text_column_does_not_depend_on_the_batch(values):
    """A version that has a signature only gets one type of text column for a null alone and beside text."""
    spec = ColumnSpec(name="city", type=ColumnType.STRING, required=False)
    contract = InputContract.of_signature(Signature.of_columns((spec,)), Container.FRAME)
    codec = InputCodec(contract, order=None, max_rows=9)
    frame = contract.frame(assemble([codec.decode(Records(rows=[{"city": value} for value in values]))]))
    assert frame["city"].dtype == pd.DataFrame({"city": ["Ulm"]})["city"].dtype


async def test_unsigned_numbers_of_64_bits_pass_every_door(open_world, connect, shelf, tmp_path):
    """They are announced as UINT64, and JSON, tensors in JSON and binary, gRPC and ZMQ carry them exactly."""
    training = pd.DataFrame({"id": np.array(IDS, dtype=np.uint64)})
    digest = write_artifact(Digits().fit(training), tmp_path / "ids", training=training)
    served_as = ServedVersion(
        number=1,
        uuid=VersionUuid(f"m-{1:032x}"),
        artifact_digest=digest,
        flavor="sklearn",
        signature=read_mlmodel(tmp_path / "ids").signature,
        task="regression",
        registered_at=datetime.now(UTC),
    )
    shelf.trees[digest], shelf.served["ids", 1] = tmp_path / "ids", served_as
    world = await open_world()
    (line,) = await world.apply(Deployment(model=ModelName("ids"), generation=1, routes=(Route(version=1, share=1.0),)))
    assert line.error is None
    expected = [number % 1000 for number in IDS]
    for door in ("rest", "grpc", "zmq"):
        said = await connect(door, world).predict("ids", {"records": [{"id": number} for number in IDS]})
        assert said.body["predictions"] == expected, door
    rest = connect("rest", world).http
    (announced,) = (await rest.get("/v2/models/ids")).json()["inputs"]
    assert announced["datatype"] == "UINT64"
    tensor = {"name": "id", "datatype": "UINT64", "shape": [3]}
    answered = await rest.post("/v2/models/ids/infer", json={"inputs": [{**tensor, "data": IDS}]})
    raw = np.array(IDS, dtype="<u8").tobytes()
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(raw)}}]}).encode()
    binary = await rest.post(
        "/v2/models/ids/infer", content=head + raw, headers={"Inference-Header-Content-Length": str(len(head))}
    )
    assert [each.json()["outputs"][0]["data"] for each in (answered, binary)] == [expected, expected]
    given = v2.ModelInferRequest.InferInputTensor(name="id", datatype="UINT64", shape=[3])
    given.contents.uint64_contents.extend(IDS)
    plain = v2.ModelInferRequest.InferInputTensor(name="id", datatype="UINT64", shape=[3])
    for request in (
        v2.ModelInferRequest(model_name="ids", inputs=[given]),
        v2.ModelInferRequest(model_name="ids", inputs=[plain], raw_input_contents=[raw]),
    ):
        response = await connect("grpc", world).v2.ModelInfer(request)
        contents = response.outputs[0].contents.fp64_contents or np.frombuffer(response.raw_output_contents[0])
        assert list(contents) == expected


@pytest.mark.parametrize(
    ("answers", "datatype"), [([1, -1], "INT64"), ([2**63, 1], "UINT64"), ([2**63, -1], "BYTES"), ([2**64], "BYTES")]
)
def test_whole_answers_have_a_datatype_that_holds_them(answers, datatype):
    """An answer beyond INT64 is UINT64, and text where no datatype holds all answers."""
    assert datatype_of(answers) == datatype


def test_tensors_of_one_request_are_columns(tmp_path):
    """A UINT64 column beside another column stays exact."""
    training = pd.DataFrame({"id": np.array(IDS, dtype=np.uint64), "x": [0.5, 1.5, 2.5]})
    predictor, codec = served(Digits().fit(training), tmp_path / "a", training)
    given = Tensors(
        tensors=(
            Tensor(name="id", datatype="UINT64", shape=(3,), values=np.array(IDS, dtype=np.uint64)),
            Tensor(name="x", datatype="FP64", shape=(3,), values=[1.0, 2.0, 3.0]),
        )
    )
    assert predictor.predict(assemble([codec.decode(given)])).predictions == [number % 1000 for number in IDS]


LISTS = pd.DataFrame({"vector": [[1.0, 2.0], [3.0, 4.0]]})


@pytest.mark.parametrize(
    "training",
    [
        LISTS,
        LISTS.assign(vector=[np.array([1.0, 2.0]), np.array([3.0, 4.0])]),
        pl.DataFrame({"vector": [[1.0, 2.0], [3.0, 4.0]]}),
        pl.DataFrame({"vector": [[1.0, 2.0], [3.0, 4.0]]}, schema={"vector": pl.Array(pl.Float64, 2)}),
    ],
    ids=["lists", "arrays", "polars lists", "polars arrays"],
)
def test_a_column_of_arrays_is_refused_by_name(training, tmp_path):
    """A column type for arrays does not exist; the error names the column and the way out."""
    with pytest.raises(InvalidInput, match=r"column 'vector' are lists or arrays.*each element a column"):
        write_artifact(Digits().fit(LISTS), tmp_path / "a", training=training)


def test_a_table_has_no_column_of_arrays():
    """A mapping of names to columns is refused in the same words."""
    with pytest.raises(InvalidInput, match=r"column 'vector' are lists or arrays"):
        as_table({"vector": np.ones((2, 2))})


def test_a_signature_with_arrays_is_refused_by_name():
    """MLflow's column type for arrays is named together with its column."""
    inputs = json.dumps([{"name": "vector", "type": "array", "items": {"type": "double"}, "required": True}])
    with pytest.raises(InvalidValue, match=r"'vector' of the signature has the type 'array'"):
        Signature.from_mlflow({"inputs": inputs})
