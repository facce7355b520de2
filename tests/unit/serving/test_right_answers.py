"""What a version answers through Mendel is what the model answered to the person who fitted it."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from mendel.drift import Reference
from mendel.errors import InvalidInput, InvalidRequest
from mendel.protos import open_inference_pb2 as v2
from mendel.serving import InferenceCall, Records, Tensor, Tensors, infer_signature, write_artifact
from mendel.serving.artifact_loading import load_predictor
from mendel.serving.input_codec import InputCodec
from mendel.serving.input_contract import Content, read_contract, write_contract
from mendel.serving.mlmodel import read_mlmodel
from mendel.serving.parity import check_parity
from mendel.serving.predictor import Predictor
from mendel.serving.probe_rows import UNSEEN, read_probe, wire_value
from mendel.serving.row_batches import Frame, assemble
from mendel.serving.v2_metadata import output_specs, output_tensors
from mendel.values import (
    Deployment,
    DesiredModel,
    DesiredState,
    ModelName,
    Route,
    ServedVersion,
    Signature,
    VersionUuid,
)
from mendel.values.parity import ParityStatus
from support.doors import connect, open_world
from support.served_models import Shelf, make_kernel, new_kernel, shelf, write_project

__all__ = ["connect", "make_kernel", "open_world", "shelf"]
RNG = np.random.default_rng(0)
ROWS = 100
AB = pd.DataFrame({"a": RNG.normal(size=ROWS), "b": RNG.normal(size=ROWS)})
POSITIVE = (AB["a"] > 0).astype(int)


def ratio(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"ratio": frame["debt"] / frame["income"]})


def digits(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[["zip"]].astype(str)


def day_of_month(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"day": frame["day"].dt.day})


def hour(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({"hour": frame["at"].dt.hour})


class Ratio(TransformerMixin, BaseEstimator):
    """Divides two columns by name."""

    def fit(self, x, y=None):
        del y
        self.fitted_ = list(x.columns)
        return self

    def transform(self, x):
        return (x["debt"] / x["income"]).to_numpy()[:, None]


def served(model: Any, directory: Path, **given: Any) -> tuple[Predictor, InputCodec]:
    """Write *model*, load it again, and give what answers requests."""
    write_artifact(model, directory, **given)
    predictor = load_predictor(directory, digest=None, project=None)
    return predictor, InputCodec(predictor.descriptor.contract, order=predictor.descriptor.order, max_rows=10_000)


def ask(answering: tuple[Predictor, InputCodec], records: list[dict[str, Any]]) -> list[Any]:
    """Send *records* as JSON."""
    predictor, codec = answering
    return predictor.predict(assemble([codec.decode(Records(rows=json.loads(json.dumps(records))))])).predictions


def on_the_wire(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {name: wire_value(value) for name, value in zip(frame.columns, row, strict=True)}
        for row in frame.itertuples(index=False, name=None)
    ]


def agrees(model: Any, frame: pd.DataFrame, directory: Path, **given: Any) -> None:
    """The served model answers every row as the model itself, together and alone."""
    answering = served(model, directory, **({"training": frame} | given))
    fitted_on = list(getattr(model, "feature_names_in_", frame.columns))
    expected = np.asarray(model.predict(frame[fitted_on]))
    records = on_the_wire(frame)
    assert np.allclose(ask(answering, records), expected.tolist(), equal_nan=True)
    for place in range(min(ROWS, 12)):
        assert np.allclose(ask(answering, records[place : place + 1])[0], expected[place].tolist())
    probe, (predictor, codec) = read_probe(directory), answering
    report = check_parity(probe, codec, predictor.predict, steady=time.perf_counter)
    assert report.status is ParityStatus.PASSED, report


@pytest.mark.parametrize(
    "model",
    [
        LogisticRegression(),
        RandomForestClassifier(n_estimators=3, random_state=0),
        make_pipeline(StandardScaler(), LogisticRegression()),
        HistGradientBoostingClassifier(max_iter=5),
    ],
    ids=["regression", "forest", "scaler", "boosting"],
)
@pytest.mark.parametrize("source", ["training", "example", "signature"])
def test_columns_go_to_the_model_in_the_order_it_was_fitted_on(model, source, tmp_path):
    """Whatever order data, example or signature have, each answer is the model's own."""
    model.fit(AB, POSITIVE)
    swapped = AB[["b", "a"]]
    given = {
        "training": {"training": swapped},
        "example": {"training": None, "input_example": swapped[:5]},
        "signature": {"training": AB, "signature": infer_signature(swapped)},
    }[source]
    agrees(model, AB, tmp_path / "a", **given)


@pytest.mark.parametrize("source", ["training", "input_example", "signature"])
def test_names_that_contradict_the_model_are_refused(source, tmp_path):
    """Other names than the model was fitted on are refused, and the first is named."""
    model = LogisticRegression().fit(AB, POSITIVE)
    other = AB.rename(columns={"b": "c"})
    given = {"signature": infer_signature(other)} if source == "signature" else {source: other}
    with pytest.raises(InvalidInput, match="'b'"):
        write_artifact(model, tmp_path / "a", **given)


def test_a_nameless_example_takes_the_names_of_the_model(tmp_path):
    """A list of rows for a model that was fitted on names announces those names."""
    model = LogisticRegression().fit(AB, POSITIVE)
    predictor, _ = served(model, tmp_path / "a", input_example=[[1.0, 1.0]])
    assert predictor.descriptor.contract.names == ("a", "b")


@pytest.mark.parametrize("strategy", ["constant", "most_frequent", "median"])
def test_a_null_is_the_same_alone_and_in_company(strategy, tmp_path):
    """Null in a column of numbers is NaN, whatever the other rows of the batch hold."""
    frame = pd.DataFrame({"sex": ["f", "m"] * 20, "fare": np.arange(40.0), "age": [np.nan, 3.0, 5.0, 60.0] * 10})
    model = make_pipeline(
        ColumnTransformer(
            [("n", SimpleImputer(strategy=strategy, fill_value=0 if strategy == "constant" else None), ["age", "fare"]),
             ("c", OneHotEncoder(), ["sex"])]
        ),
        LogisticRegression(),
    ).fit(frame, [0, 1, 1, 0] * 10)  # fmt: skip
    agrees(model, frame, tmp_path / "a")


def test_whole_numbers_reach_the_model_as_whole_numbers(tmp_path):
    """A transformer that writes a whole number as text sees no '.0'."""
    frame = pd.DataFrame({"zip": np.array([89073, 53111, 24103, 10115] * 10), "x": np.arange(40.0)})
    model = make_pipeline(
        FunctionTransformer(digits), OneHotEncoder(handle_unknown="ignore"), LinearRegression()
    ).fit(frame, [1.0, 2.0, 3.0, 4.0] * 10)  # fmt: skip
    agrees(model, frame, tmp_path / "a")


@pytest.mark.parametrize("first", [FunctionTransformer(ratio), Ratio()], ids=["function", "class"])
def test_a_model_that_selects_columns_by_name_gets_a_frame(first, tmp_path):
    """A model of numbers alone that was fitted on a frame is handed a frame if it needs one."""
    frame = pd.DataFrame({"debt": RNG.uniform(1, 9, ROWS), "income": RNG.uniform(1, 9, ROWS)})
    model = make_pipeline(first, LogisticRegression()).fit(frame, (frame["debt"] > frame["income"]).astype(int))
    agrees(model, frame, tmp_path / "a")


def test_pandas_output_is_kept(tmp_path):
    """set_output(transform='pandas') with a selection by name answers as before."""
    model = make_pipeline(
        StandardScaler().set_output(transform="pandas"), FunctionTransformer(lambda x: x[["a"]]), LogisticRegression()
    ).fit(AB, POSITIVE)
    agrees(model, AB, tmp_path / "a")


@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_times_are_times(zone, tmp_path):
    """A column of times is announced as datetime and reaches the model as such."""
    frame = pd.DataFrame({"at": pd.date_range("2024-03-30", periods=48, freq="h", tz=zone)})
    model = make_pipeline(FunctionTransformer(hour), LinearRegression()).fit(frame, np.arange(48.0) % 24)
    agrees(model, frame, tmp_path / "a")
    assert infer_signature(frame).inputs[0].type == "datetime"


def test_an_epoch_is_a_time(tmp_path):
    """A number is the seconds since 1970."""
    frame = pd.DataFrame({"at": pd.date_range("2024-01-01", periods=24, freq="h")})
    model = make_pipeline(FunctionTransformer(hour), LinearRegression()).fit(frame, np.arange(24.0))
    answering = served(model, tmp_path / "a", training=frame)
    assert ask(answering, [{"at": 1704078000}]) == pytest.approx(ask(answering, [{"at": "2024-01-01T03:00:00"}]))


@pytest.mark.parametrize(
    "model",
    [
        RandomForestClassifier(n_estimators=3, random_state=0),
        MultiOutputClassifier(LogisticRegression()),
        LinearRegression(),
    ],
    ids=["forest", "multi-output", "2-D regression"],
)
@pytest.mark.parametrize("rows", [3, ROWS])
def test_several_outputs_are_lists(model, rows, tmp_path):
    """A model with several outputs answers one list per row, and probabilities per output."""
    outcomes = np.column_stack([POSITIVE, 1 - POSITIVE, (AB["b"] > 0).astype(int)])
    model.fit(AB, outcomes)
    predictor, codec = served(model, tmp_path / "a", training=AB[:rows])
    outputs = predictor.predict(assemble([codec.decode(Records(rows=on_the_wire(AB)))]))
    assert np.allclose(outputs.predictions, model.predict(AB))
    if hasattr(model, "predict_proba"):
        per_output = np.stack(model.predict_proba(AB), axis=1)
        assert np.allclose(outputs.probabilities, per_output)


def test_single_precision_of_a_constant_is_in_range(tmp_path):
    """0.1 sent as FP32 or FP16 is 0.1 for the range check and for the log."""
    frame = pd.DataFrame({"rate": np.full(ROWS, 0.1), "x": AB["a"]})
    model = LogisticRegression().fit(frame, POSITIVE)
    _, codec = served(model, tmp_path / "a", training=frame)
    reference = Reference.from_json((tmp_path / "a" / "mendel" / "reference.json").read_bytes())
    for datatype, kind in (("FP32", np.float32), ("FP16", np.float16)):
        tensors = tuple(
            Tensor(name=name, datatype=datatype, shape=(2,), values=np.array(values, dtype=kind))
            for name, values in (("rate", [0.1, 0.1]), ("x", [0.5, -0.5]))
        )
        batch = assemble([codec.decode(Tensors(tensors=tensors))])
        assert not reference.out_of_range(batch.table()).any()
        assert batch.logged[:, 0].tolist() == [0.1, 0.1]


NA = [
    pd.array(["x", None, "y", "x"] * 10, dtype="string"),
    pd.array([True, None, False, True] * 10, dtype="boolean"),
    pd.array([1, None, 2, 3] * 10, dtype="Int64"),
    pd.array([1.5, None, 2.5, 3.5] * 10, dtype="Float64"),
    pd.Series(["x", None, "y", "x"] * 10, dtype=object),
    pd.Series([True, "yes", None, False] * 10, dtype=object),
    pd.Categorical(["x", None, "y", "x"] * 10),
]


class Seen(BaseEstimator):
    """Answers with the text of what it is handed, so that nothing can hide."""

    def fit(self, x, y=None):
        del y
        self.feature_names_in_ = np.array(x.columns, dtype=object)
        return self

    def predict(self, x):
        return np.array([f"{x['c'].dtype} {value!r} {type(value).__name__}" for value in x["c"].tolist()])


@pytest.mark.parametrize("column", NA, ids=lambda column: str(column.dtype))
def test_nullable_columns_keep_type_and_null(column, tmp_path):
    """A null of pandas is null on the wire, and the model sees the dtype and the null that it was fitted with."""
    frame = pd.DataFrame({"c": column, "x": np.arange(40.0)})
    model = Seen().fit(frame)
    answering = served(model, tmp_path / "a", training=frame)
    assert ask(answering, on_the_wire(frame)) == model.predict(frame).tolist()


@pytest.mark.parametrize(
    "values",
    [[9007199254740993, 9007199254740992], [2**63 - 1, -(2**63)], np.array([2**64 - 1, 0], dtype=np.uint64)],
    ids=["2^53", "int64", "uint64"],
)
def test_whole_numbers_stay_exact(values, tmp_path):
    """Ids above 2^53 reach the model and the log as they were sent."""
    frame = pd.DataFrame({"c": values, "x": [1.0, 2.0]})
    answering = served(Seen().fit(frame), tmp_path / "a", training=frame)
    records = on_the_wire(frame)
    assert ask(answering, records) == Seen().fit(frame).predict(frame).tolist()
    logged = assemble([answering[1].decode(Records(rows=records))]).logged
    assert [int(value) for value in logged[0]] == [int(value) for value in values]


@pytest.mark.parametrize(
    ("values", "sent"),
    [
        ([Decimal("1.10"), Decimal("2.25")], "1.10"),
        ([Decimal("1.1"), Decimal("2.25")], 1.1),
        ([date(2024, 1, 31), date(2024, 2, 1)], "2024-01-31"),
    ],
    ids=["decimal as text", "decimal as number", "date"],
)
def test_decimals_and_dates_are_what_they_were(values, sent, tmp_path):
    """A Decimal is sent as number or text, a date as ISO 8601."""
    frame = pd.DataFrame({"c": pd.Series(values, dtype=object)})
    answering = served(Seen().fit(frame), tmp_path / "a", training=frame)
    assert ask(answering, [{"c": sent}]) == Seen().fit(frame).predict(frame).tolist()[:1]


def test_an_unseen_category_is_missing_as_for_pandas(tmp_path):
    """A value that is no category reaches the model as a missing category."""
    frame = pd.DataFrame({"c": pd.Categorical(["x", "y"] * 5)})
    answering = served(Seen().fit(frame), tmp_path / "a", training=frame)
    assert ask(answering, [{"c": "z"}]) == ["category nan float"]


def test_two_columns_of_one_name_are_refused(tmp_path):
    """The name is told."""
    frame = pd.DataFrame(np.zeros((4, 2)), columns=["a", "a"])
    with pytest.raises(InvalidInput, match="'a'"):
        write_artifact(LogisticRegression().fit(frame.to_numpy(), [0, 1, 0, 1]), tmp_path / "a", training=frame)


@pytest.mark.parametrize("name", ["prediction", "proba.1", "feature.x", "Größe (cm)"])
def test_a_feature_may_have_any_name(name, tmp_path):
    """A feature that is called like a column of the log is watched like any other."""
    frame = pd.DataFrame({name: AB["a"], "x": AB["b"]})
    served(LogisticRegression().fit(frame, POSITIVE), tmp_path / "a", training=frame)
    reference = Reference.from_json((tmp_path / "a" / "mendel" / "reference.json").read_bytes())
    assert len(reference.inputs) == 2


@pytest.mark.parametrize("bad", [3.5, "3", None, 2**63, True], ids=repr)
def test_what_is_no_whole_number_is_refused(bad, tmp_path):
    """A column of whole numbers without nulls takes whole numbers of 64 bits only."""
    frame = pd.DataFrame({"c": [1, 2], "x": [1.0, 2.0]})
    answering = served(Seen().fit(frame), tmp_path / "a", training=frame)
    with pytest.raises(InvalidRequest, match="'c'"):
        ask(answering, [{"c": bad, "x": 1.0}])


def floats_for_whole_numbers(directory: Path) -> None:
    contract = read_contract(directory)
    columns = tuple(
        replace(column, dtype="float64", content=Content.FLOAT) if column.name == "zip" else column
        for column in contract.columns
    )
    write_contract(directory, replace(contract, columns=columns))


def another_model(directory: Path) -> None:
    write_artifact(told_by_everything(FAULTY, sign=-1), directory.parent / "other", training=FAULTY)
    (file,) = (path for path in directory.glob("model.*"))
    file.write_bytes((directory.parent / "other" / file.name).read_bytes())


def told_by_everything(frame: pd.DataFrame, *, sign: int = 1) -> Any:
    """Fit a model whose answer depends on each column, its type, and its nulls."""
    return make_pipeline(
        ColumnTransformer(
            [
                ("zip", make_pipeline(FunctionTransformer(digits), OneHotEncoder(handle_unknown="ignore")), ["zip"]),
                ("age", SimpleImputer(strategy="mean", add_indicator=True), ["age"]),
                ("x", "passthrough", ["x"]),
            ]
        ),
        LinearRegression(),
    ).fit(frame, sign * (frame["x"] + frame["age"].fillna(1000.0) + frame["zip"] / 1e4))


FAULTY = pd.DataFrame(
    {"zip": np.array([89073, 53111, 24103, 10115] * 10), "age": [np.nan, 3.0, 5.0, 60.0] * 10, "x": np.arange(40.0)}
)


@pytest.mark.parametrize("fault", [floats_for_whole_numbers, another_model])
def test_a_fault_makes_parity_fail(fault, tmp_path):
    """Whatever changes the answers of an artefact afterwards is found when the artefact is loaded."""
    served(told_by_everything(FAULTY), tmp_path / "a", training=FAULTY)
    fault(tmp_path / "a")
    predictor = load_predictor(tmp_path / "a", digest=None, project=None)
    codec = InputCodec(predictor.descriptor.contract, order=None, max_rows=100)
    report = check_parity(read_probe(tmp_path / "a"), codec, predictor.predict, steady=time.perf_counter)
    assert report.status is ParityStatus.DIFFERS
    assert report.reason.startswith("row 0")


def test_swapped_columns_make_parity_fail(tmp_path):
    """A contract whose order is not the model's is found."""
    served(LogisticRegression().fit(AB, POSITIVE), tmp_path / "a", training=AB)
    contract = read_contract(tmp_path / "a")
    write_contract(tmp_path / "a", replace(contract, columns=contract.columns[::-1]))
    predictor = load_predictor(tmp_path / "a", digest=None, project=None)
    codec = InputCodec(predictor.descriptor.contract, order=None, max_rows=100)
    report = check_parity(read_probe(tmp_path / "a"), codec, predictor.predict, steady=time.perf_counter)
    assert report.status is ParityStatus.DIFFERS


@pytest.mark.parametrize("fault", ["null is 0", "a library answers otherwise"])
def test_a_fault_on_the_way_makes_parity_fail(fault, tmp_path):
    """A null that is read as 0, and a library that answers 1 in 10,000 more, are found."""
    predictor, codec = served(told_by_everything(FAULTY), tmp_path / "a", training=FAULTY)

    def predict(frame):
        if fault == "null is 0":
            columns = tuple(np.nan_to_num(c) if c.dtype == np.float64 else c for c in frame.columns)
            return predictor.predict(Frame(frame.shape, columns))
        outputs = predictor.predict(frame)
        return replace(outputs, predictions=[value * 1.0001 for value in outputs.predictions])

    report = check_parity(read_probe(tmp_path / "a"), codec, predict, steady=time.perf_counter)
    assert report.status is ParityStatus.DIFFERS


@pytest.mark.parametrize(
    ("outcome", "datatype", "shape"),
    [
        (POSITIVE, "INT64", [-1]),
        (POSITIVE == 1, "BOOL", [-1]),
        (np.where(POSITIVE, "yes", "no"), "BYTES", [-1]),
        (np.column_stack([AB["a"], AB["b"]]), "FP64", [-1, 2]),
    ],
    ids=["whole", "truth", "text", "2-D"],
)
async def test_outputs_are_announced_as_they_are_answered(outcome, datatype, shape, tmp_path):
    """The metadata of a version has the datatype and the shape of its answers."""
    kind = LinearRegression if shape == [-1, 2] else LogisticRegression
    digest = write_artifact(kind().fit(AB, outcome), tmp_path / "a", training=AB)
    served_as = ServedVersion(
        number=1,
        uuid=VersionUuid(f"m-{1:032x}"),
        artifact_digest=digest,
        flavor="sklearn",
        signature=None,
        task="classification",
        registered_at=datetime.now(UTC),
    )
    desired = DesiredModel(
        deployment=Deployment(model=ModelName("m"), generation=1, routes=(Route(version=1, share=1.0),)),
        versions=(served_as,),
    )
    write_project(tmp_path)
    async with new_kernel(Shelf(tmp_path)) as kernel:
        await kernel.apply(DesiredState(revision=1, models=(desired,), key_hashes={}), lambda _: tmp_path / "a")
        version = kernel.served("m")
        call = InferenceCall(model="m", input=Records(rows=on_the_wire(AB[:3])), door="rest")
        answered = output_tensors(await kernel.infer(call))
        announced = output_specs(version)
    assert (announced[0].datatype, list(announced[0].shape)) == (datatype, shape)
    assert [(t.datatype, t.shape[1:]) for t in answered] == [(s.datatype, s.shape[1:]) for s in announced]


@pytest.mark.parametrize("names", [("f0", "f1"), ("0", "1"), ("Column_0", "Column_1")], ids=lambda names: names[0])
def test_names_that_look_made_are_names(names, tmp_path):
    """A frame whose columns are called like those of an array is put in the model's order all the same."""
    frame = AB.set_axis(list(names), axis=1)
    model = LogisticRegression().fit(frame, POSITIVE)
    agrees(model, frame, tmp_path / "a", training=frame[[names[1], names[0]]])


@pytest.mark.parametrize(
    ("column", "sent"),
    [
        (pd.Series([1, 2, 3, 4]), 3),
        (pd.Series([True, False, True, False]), True),
        (pd.Series([1.5, 2.5, 3.5, 4.5], dtype="float32"), 1.5),
        (pd.array([2**63, 1, 2, 3], dtype="UInt64"), 2**63),
        (pd.array([1, 2, 3, 4], dtype="Int16"), 4),
        (pd.Series([datetime(2024, 1, 1), datetime(2024, 1, 2)] * 2, dtype=object), "2024-01-02T00:00:00"),
    ],
    ids=["int64", "bool", "float32", "UInt64", "Int16", "datetime objects"],
)
@pytest.mark.parametrize("optional", [False, True], ids=["required", "optional by signature"])
def test_every_type_takes_its_values_and_its_nulls(column, sent, optional, tmp_path):
    """A value of the type is taken; a null is taken where the signature allows it, and is never 0 or False."""
    frame = pd.DataFrame({"c": column})
    signature = infer_signature(frame)
    if optional:
        spec = replace(signature.inputs[0], required=False)
        signature = Signature.of_columns((spec,))
    answering = served(Seen().fit(frame), tmp_path / "a", training=frame, signature=signature)
    (told,) = ask(answering, [{"c": sent}])
    assert told.split()[1] not in {"nan", "None", "<NA>"}
    if not optional:
        return
    (told,) = ask(answering, [{"c": None}])
    assert told.split()[1] in {"nan", "None", "<NA>", "NaT"}


@pytest.mark.parametrize("sent", ["1e400", "-1e400", "NaN", "Infinity", "1" * 500])
def test_a_decimal_is_finite_as_a_number(sent, tmp_path):
    """What would be infinite for the model is refused."""
    frame = pd.DataFrame({"c": pd.Series([Decimal("1.10"), Decimal("2.25")], dtype=object)})
    answering = served(Seen().fit(frame), tmp_path / "a", training=frame)
    with pytest.raises(InvalidRequest, match="'c'"):
        ask(answering, [{"c": sent}])


def test_text_without_a_zone_is_in_the_zone_of_the_column(tmp_path):
    """Also where the zone is a fixed offset."""
    frame = pd.DataFrame({"c": pd.to_datetime(["2024-01-01T10:00+01:00", "2024-01-02T10:00+01:00"])})
    answering = served(Seen().fit(frame), tmp_path / "a", training=frame)
    assert ask(answering, [{"c": "2024-01-01T10:00"}]) == Seen().fit(frame).predict(frame).tolist()[:1]


def test_an_array_of_text_is_an_array_of_objects(tmp_path):
    """A model that was fitted on an array of text answers text."""
    rows = np.array([["x", "y"], ["y", "x"]] * 10)
    model = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(rows, [0, 1] * 10)
    answering = served(model, tmp_path / "a", training=rows)
    assert ask(answering, [{"x0": "x", "x1": "y"}, {"x0": "y", "x1": "x"}]) == [0, 1]


@pytest.mark.parametrize(
    ("example", "says"),
    [
        (AB.assign(a=np.nan)[:2], "null"),
        (AB.rename(columns={"a": "c"})[:2], "'a'"),
        (np.zeros((2, 3)), "3 columns"),
    ],
    ids=["null", "name", "width"],
)
def test_an_example_that_is_not_like_the_training_data_is_refused(example, says, tmp_path):
    """An input example that a server could not predict is refused when the model is registered."""
    model = LogisticRegression().fit(AB, POSITIVE)
    with pytest.raises(InvalidInput, match=says):
        write_artifact(model, tmp_path / "a", training=AB, input_example=example)


def test_a_model_of_an_array_gets_an_array_from_a_frame(tmp_path):
    """A model that was fitted on an array and registered with a frame is handed an array, and its width is checked."""
    model = make_pipeline(FunctionTransformer(lambda x: x[:, :1]), LogisticRegression()).fit(AB.to_numpy(), POSITIVE)
    answering = served(model, tmp_path / "a", input_example=AB[:5])
    assert ask(answering, on_the_wire(AB)) == model.predict(AB.to_numpy()).tolist()
    with pytest.raises(InvalidInput, match="2 columns"):
        write_artifact(LogisticRegression().fit(AB.to_numpy(), POSITIVE), tmp_path / "b", training=AB.assign(c=1.0))


def test_small_answers_are_compared_by_their_size(tmp_path):
    """Answers around 1e-10 that are swapped are a difference."""
    predictor, codec = served(LinearRegression().fit(AB, AB["a"] * 1e-10), tmp_path / "a", training=AB)

    def negated(frame):
        outputs = predictor.predict(frame)
        return replace(outputs, predictions=[-value for value in outputs.predictions])

    report = check_parity(read_probe(tmp_path / "a"), codec, negated, steady=time.perf_counter)
    assert report.status is ParityStatus.DIFFERS


def test_accepting_one_difference_accepts_no_other(tmp_path):
    """A report admits exactly the differences that were accepted."""
    predictor, codec = served(LinearRegression().fit(AB, AB["a"]), tmp_path / "a", training=AB)

    def shifted(by, rows):
        def predict(frame):
            outputs = predictor.predict(frame)
            return replace(
                outputs,
                predictions=[value + by if place < rows else value for place, value in enumerate(outputs.predictions)],
            )

        return check_parity(read_probe(tmp_path / "a"), codec, predict, steady=time.perf_counter)

    accepted = shifted(1.0, 1).difference_id
    assert shifted(1.0, 1).admits(accepted)
    assert not shifted(1.0, 2).admits(accepted)
    assert not shifted(2.0, 1).admits(accepted)


def test_probe_rows_hold_what_goes_wrong(tmp_path):
    """A null, the extremes and a text that nobody trained on are among the probe rows, the hard ones first."""
    frame = pd.DataFrame({"n": [*range(90), np.nan, 1e6], "t": ["x"] * 91 + ["rare"]})
    model = make_pipeline(
        ColumnTransformer(
            [("n", SimpleImputer(), ["n"]), ("t", OneHotEncoder(handle_unknown="ignore"), ["t"])],
        ),
        LinearRegression(),
    ).fit(frame, np.arange(92.0))  # fmt: skip
    served(model, tmp_path / "a", training=frame)
    probe = read_probe(tmp_path / "a")
    assert {row[0] for row in probe.rows[:4]} >= {None, 1e6, 0.0}
    assert {"x", "rare", UNSEEN} <= {row[1] for row in probe.rows}


DATATYPES = {"zip": "INT64", "x": "FP64", "member": "BOOL", "city": "BYTES", "age": "FP64", "day": "BYTES"}


def packed(name: str, values: list[Any]) -> bytes:
    """The binary form of a tensor; a null among numbers is NaN there."""
    if DATATYPES[name] == "BYTES":
        return b"".join(len(text).to_bytes(4, "little") + text for text in (value.encode() for value in values))
    kind = {"INT64": "<i8", "FP64": "<f8", "BOOL": "?"}[DATATYPES[name]]
    return np.array([np.nan if value is None else value for value in values], dtype=kind).tobytes()


async def in_json(connect: Any, world: Any, columns: dict[str, list[Any]]) -> list[float]:
    """Ask with tensors in JSON."""
    tensors = [
        {"name": name, "datatype": DATATYPES[name], "shape": [len(values)], "data": values}
        for name, values in columns.items()
    ]
    response = await connect("rest", world).http.post("/v2/models/hard/infer", json={"inputs": tensors})
    return response.json()["outputs"][0]["data"]


async def in_binary(connect: Any, world: Any, columns: dict[str, list[Any]]) -> list[float]:
    """Ask with the binary extension over REST."""
    blobs = {name: packed(name, values) for name, values in columns.items()}
    tensors = [
        {"name": name, "datatype": DATATYPES[name], "shape": [len(values)],
         "parameters": {"binary_data_size": len(blobs[name])}}
        for name, values in columns.items()
    ]  # fmt: skip
    head = json.dumps({"inputs": tensors}).encode()
    response = await connect("rest", world).http.post(
        "/v2/models/hard/infer",
        content=head + b"".join(blobs.values()),
        headers={"Inference-Header-Content-Length": str(len(head))},
    )
    return response.json()["outputs"][0]["data"]


async def in_contents(connect: Any, world: Any, columns: dict[str, list[Any]]) -> list[float]:
    """Ask with typed contents over gRPC."""
    request = v2.ModelInferRequest(model_name="hard")
    for name, values in columns.items():
        given = request.inputs.add(name=name, datatype=DATATYPES[name], shape=[len(values)])
        if DATATYPES[name] == "BYTES":
            given.contents.bytes_contents.extend(value.encode() for value in values)
        elif DATATYPES[name] == "BOOL":
            given.contents.bool_contents.extend(values)
        elif DATATYPES[name] == "INT64":
            given.contents.int64_contents.extend(values)
        else:
            given.contents.fp64_contents.extend(np.nan if value is None else value for value in values)
    return answered(await connect("grpc", world).v2.ModelInfer(request))


async def in_raw_contents(connect: Any, world: Any, columns: dict[str, list[Any]]) -> list[float]:
    """Ask with raw contents over gRPC."""
    request = v2.ModelInferRequest(model_name="hard")
    for name, values in columns.items():
        request.inputs.add(name=name, datatype=DATATYPES[name], shape=[len(values)])
        request.raw_input_contents.append(packed(name, values))
    return answered(await connect("grpc", world).v2.ModelInfer(request))


def answered(response: Any) -> list[float]:
    """The answer's numbers, typed or raw."""
    return list(response.outputs[0].contents.fp64_contents or np.frombuffer(response.raw_output_contents[0]))


async def test_probe_rows_pass_every_door(open_world, connect, shelf, tmp_path):
    """The hard rows of a version get the model's own answers over REST, ZMQ, ModelOps, and every form of v2 tensors."""
    days = pd.date_range("2024-02-27", periods=40)
    frame = FAULTY.assign(member=[True, False] * 20, city=["Ulm", "Bönn"] * 20, day=days)
    model = make_pipeline(
        ColumnTransformer(
            [
                ("zip", make_pipeline(FunctionTransformer(digits), OneHotEncoder(handle_unknown="ignore")), ["zip"]),
                ("age", SimpleImputer(strategy="mean", add_indicator=True), ["age"]),
                ("city", OneHotEncoder(handle_unknown="ignore"), ["city"]),
                ("day", FunctionTransformer(day_of_month), ["day"]),
                ("rest", "passthrough", ["x", "member"]),
            ]
        ),
        LinearRegression(),
    ).fit(frame, frame["x"] + frame["age"].fillna(1000.0) + frame["zip"] / 1e4 + days.day)
    digest = write_artifact(model, tmp_path / "hard", training=frame)
    probe, world = read_probe(tmp_path / "hard"), await open_world()
    served_as = ServedVersion(
        number=1,
        uuid=VersionUuid(f"m-{1:032x}"),
        artifact_digest=digest,
        flavor="sklearn",
        signature=read_mlmodel(tmp_path / "hard").signature,
        task="regression",
        registered_at=datetime.now(UTC),
    )
    shelf.trees[digest], shelf.served["hard", 1] = tmp_path / "hard", served_as
    (line,) = await world.apply(
        Deployment(model=ModelName("hard"), generation=1, routes=(Route(version=1, share=1.0),))
    )
    assert line.error is None
    records = [dict(zip(probe.columns, row, strict=True)) for row in probe.rows]
    for door in ("rest", "grpc", "zmq"):
        client = connect(door, world)
        together = (await client.predict("hard", {"records": records})).body["predictions"]
        assert together == pytest.approx(list(probe.predictions)), door
        for record, expected in list(zip(records, probe.predictions, strict=True))[:6]:
            assert (await client.predict("hard", {"records": [record]})).body["predictions"] == pytest.approx(
                [expected]
            )
    assert {None} < {record["age"] for record in records}
    columns = {name: [record[name] for record in records] for name in probe.columns}
    for form in (in_json, in_binary, in_contents, in_raw_contents):
        assert await form(connect, world, columns) == pytest.approx(list(probe.predictions)), form.__name__
