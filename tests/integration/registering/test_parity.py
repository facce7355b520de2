"""Parity at registration, on leaving development, and at every load."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import mendel
from mendel.errors import Conflict, InvalidInput
from mendel.registry import Registration
from mendel.serving import Records, load_predictor, write_artifact
from mendel.serving.input_codec import InputCodec
from mendel.serving.row_batches import assemble
from mendel.values import ModelName
from mendel.values.parity import ParityStatus
from support.principals import ME

FRAME = pd.DataFrame({"age": np.arange(40.0), "income": np.arange(40.0)[::-1]})
OUTCOME = np.array([0, 1] * 20)


class Forgetful(BaseEstimator):
    """Answers otherwise after it was pickled: what a class does that only the notebook has right."""

    def fit(self, x, y=None):
        del y
        self.feature_names_in_ = np.array(x.columns, dtype=object)
        self.shift = 1
        return self

    def __getstate__(self):
        return {**self.__dict__, "shift": 0}

    def predict(self, x):
        return np.asarray(x["age"]) + self.shift


class Random(Forgetful):
    """Never answers twice alike."""

    def predict(self, x):
        return np.random.default_rng().normal(size=len(x))


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with mendel.connect(directory=str(tmp_path_factory.mktemp("hub") / ".mendel")) as client:
        yield client


def test_an_equal_version_passes(client):
    """A version whose served answers are the model's own leaves development, and says how it was tried."""
    result = client.register_baseline(
        model=LogisticRegression().fit(FRAME, OUTCOME), model_type="classification", name="equal", training_data=FRAME
    )
    assert client.version(result.model_id).parity.status is ParityStatus.PASSED
    assert "Parity: passed" in client.card(result.model_id)
    moved = client.change_stage(result.model_id, "sandbox")
    assert moved.stage == "sandbox"
    assert moved.clean_parity.status is ParityStatus.PASSED
    assert moved.clean_parity.singles == moved.clean_parity.rows
    assert "Parity in a new Python process: passed" in client.card(result.model_id)


def test_a_difference_keeps_a_version_in_development_until_a_person_accepts_it(client):
    """The refusal names row and both values; accepting needs a reason, and is on the card."""
    result = client.register_baseline(
        model=Forgetful().fit(FRAME), model_type="regression", name="differs", training_data=FRAME
    )
    with pytest.raises(Conflict, match=r"row 0 has another prediction .* answered 1\.0, the version answers 0\.0"):
        client.change_stage(result.model_id, "sandbox")
    with pytest.raises(InvalidInput, match="reason"):
        client.accept_difference(result.model_id, reason=" ")
    client.accept_difference(result.model_id, reason="the notebook was wrong")
    assert client.change_stage(result.model_id, "sandbox").stage == "sandbox"
    assert f"Difference accepted by {ME}: the notebook was wrong" in client.card(result.model_id)


def unlike(tree, other):
    """Put the model file of the artefact *other* into the artefact *tree*."""
    (name,) = (path.name for path in other.iterdir() if path.suffix in {".joblib", ".pkl", ".skops"})
    shutil.copyfile(other / name, tree / name)


def test_a_new_process_finds_another_model_file(client, tmp_path):
    """Whatever an artefact says of itself, a new process asks all rows; the refusal names row and values once."""
    for name, outcome in (("told", OUTCOME), ("held", 1 - OUTCOME)):
        write_artifact(LogisticRegression().fit(FRAME, outcome), tmp_path / name, training=FRAME)
    unlike(tmp_path / "told", tmp_path / "held")
    wish = Registration(model=ModelName("swapped"), flavor="sklearn", task="classification")
    ref = client.register(wish, tmp_path / "told").model_id
    assert client.version(ref).parity.status is ParityStatus.PASSED
    for _ in range(2):
        with pytest.raises(Conflict, match=r"row \d+ has .* answered [01], the version answers [01]"):
            client.change_stage(ref, "sandbox", without_parity="a reason does not excuse a difference")
    assert client.version(ref).stage == "development"
    assert client.version(ref).clean_parity.status is ParityStatus.DIFFERS
    client.accept_difference(ref, reason="the other model is meant")
    assert client.change_stage(ref, "sandbox").stage == "sandbox"


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_file_measures_a_version_that_was_registered_without_rows(client, tmp_path, ending):
    """Without rows a version stays; after a probe it leaves, and card and version say what was probed, by whom."""
    model = LogisticRegression().fit(FRAME, OUTCOME)
    ref = client.register_baseline(model=model, model_type="classification", name=f"bare-{ending}").model_id
    with pytest.raises(Conflict, match="has no probe rows"):
        client.change_stage(ref, "sandbox")
    rows = tmp_path / f"rows.{ending}"
    data = FRAME.assign(outcome=OUTCOME)
    data.to_csv(rows, index=False) if ending == "csv" else data.to_parquet(rows, index=False)
    probed = client.probe(ref, rows).probed
    assert (probed.file, probed.by, probed.report.status) == (rows.name, ME, ParityStatus.PASSED)
    assert probed.report.singles == probed.report.rows > 8
    assert client.probe(ref, rows).probed == probed
    assert client.change_stage(ref, "sandbox").stage == "sandbox"
    assert f"Parity probed from file {rows.name}" in client.card(ref)


def test_a_probe_says_what_is_wrong_with_a_file(client, tmp_path):
    """A file without a column of the model, and a file of another kind, are refused by name; nothing is recorded."""
    model = LogisticRegression().fit(FRAME, OUTCOME)
    ref = client.register_baseline(model=model, model_type="classification", name="choosy").model_id
    FRAME[["age"]].to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(Conflict, match="income"):
        client.probe(ref, tmp_path / "rows.csv")
    (tmp_path / "rows.txt").write_text("1")
    with pytest.raises(InvalidInput, match="neither"):
        client.probe(ref, tmp_path / "rows.txt")
    assert client.version(ref).probed is None


def test_nothing_is_accepted_where_nothing_differs(client):
    """Accepting an equal version is a conflict."""
    result = client.register_baseline(
        model=LogisticRegression().fit(FRAME, OUTCOME), model_type="classification", name="same", training_data=FRAME
    )
    with pytest.raises(Conflict, match="do not differ"):
        client.accept_difference(result.model_id, reason="none")


def test_a_model_that_never_answers_twice_alike_is_not_measured(client, tmp_path):
    """Its parity says why, rows of a file do not help, and a reason lets it go."""
    result = client.register_baseline(
        model=Random().fit(FRAME), model_type="regression", name="random", training_data=FRAME
    )
    parity = client.version(result.model_id).parity
    assert parity.status is ParityStatus.NOT_MEASURED
    assert "different answers to the same rows" in parity.reason
    assert str(parity).startswith("not measured")
    with pytest.raises(Conflict, match="different answers to the same rows"):
        client.change_stage(result.model_id, "sandbox")
    FRAME.to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(Conflict, match="different answers to the same rows"):
        client.probe(result.model_id, tmp_path / "rows.csv")
    with pytest.raises(InvalidInput, match="reason"):
        client.change_stage(result.model_id, "sandbox", without_parity=" ")
    assert client.change_stage(result.model_id, "sandbox", without_parity="it draws lots").stage == "sandbox"
    assert f"by {ME}: it draws lots" in client.card(result.model_id)


def told_by_types(frame):
    """Fit a model whose answer depends on the exact types of its columns."""

    def seen(x):
        return pd.DataFrame({
            "zip": (x["zip"].astype(str) == "89073").astype(float),
            "hour": x["at"].dt.hour,
            "city": x["city"].cat.codes,
            "age": x["age"].fillna(-1.0),
        })  # fmt: skip

    truth = (frame["zip"] == 89073) * 10.0 + frame["at"].dt.hour + frame["city"].cat.codes * 100.0
    return make_pipeline(FunctionTransformer(seen), LinearRegression()).fit(frame, truth)


TYPED = pd.DataFrame(
    {
        "zip": np.array([89073, 53111, 24103, 10115] * 10),
        "at": pd.date_range("2024-01-01", periods=40, freq="h"),
        "city": pd.Categorical(["Ulm", "Bonn"] * 20),
        "age": [np.nan, 3.0, 5.0, 60.0] * 10,
    }
)


@pytest.mark.parametrize("order", [["zip", "at", "city", "age"], ["age", "city", "at", "zip"]], ids=["own", "other"])
@pytest.mark.parametrize("kind", ["frame", "parquet"])
def test_training_data_keep_their_types(client, tmp_path, kind, order):
    """One call of register_baseline keeps whole numbers, times, categories and nulls, and the model's order."""
    model = told_by_types(TYPED)
    data = TYPED[order].assign(truth=np.arange(40.0))
    if kind == "parquet":
        data.to_parquet(tmp_path / "rows.parquet")
    result = client.register_baseline(
        model=model,
        model_type="regression",
        name=f"typed-{kind}-{order[0]}",
        training_data=data if kind == "frame" else tmp_path / "rows.parquet",
        target="truth",
    )
    record = client.version(result.model_id)
    assert record.parity.status is ParityStatus.PASSED, record.parity
    types = {column.name: column.type.value for column in record.signature.inputs}
    assert types == {"zip": "long", "at": "datetime", "city": "string", "age": "double"}
    assert record.signature.names == ("zip", "at", "city", "age")
    predictor = load_predictor(Path(result.artifact_path), digest=None, project=None)
    codec = InputCodec(predictor.descriptor.contract, order=None, max_rows=100)
    rows = [{"zip": 89073, "at": "2024-01-01T05:00:00", "city": "Ulm", "age": None}]
    answered = predictor.predict(assemble([codec.decode(Records(rows=rows))])).predictions
    own = pd.DataFrame({**TYPED.iloc[[0]].to_dict("list"), "at": [pd.Timestamp("2024-01-01T05:00:00")]})
    own["city"] = pd.Categorical(["Ulm"], categories=TYPED["city"].cat.categories)
    assert answered == pytest.approx(model.predict(own[list(TYPED.columns)]).tolist())


@pytest.mark.parametrize("data", [TYPED[["zip"]], TYPED.rename(columns={"age": "years"})], ids=["fewer", "another"])
def test_training_data_that_lack_a_column_of_the_model_are_refused(client, data):
    """The refusal names a column that is missing."""
    with pytest.raises(InvalidInput, match="lacks 'a"):
        client.register_baseline(
            model=told_by_types(TYPED), model_type="regression", name="lacking", training_data=data
        )


def test_a_model_that_cannot_answer_its_own_rows_is_refused(client):
    """What a server could not answer either is no version."""
    with pytest.raises(InvalidInput, match="cannot predict its training data"):
        client.register_baseline(
            model=Broken().fit(FRAME), model_type="regression", name="broken", input_example=FRAME[:3]
        )
    assert "broken" not in client.models()


class Broken(Forgetful):
    """Answers nothing."""

    def predict(self, x):
        raise KeyError("debt")
