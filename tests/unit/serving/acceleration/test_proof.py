"""Models converted to ONNX graphs, and the rows that decide whether a graph may answer."""

from __future__ import annotations

import functools
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, RobustScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier
from structlog.testing import capture_logs

from mendel.errors import ModelFailed, Unsupported
from mendel.serving import Predictor, Records, load_predictor, read_probe, write_artifact
from mendel.serving.acceleration import tree_graphs
from mendel.serving.acceleration.accelerated_predictor import AcceleratedPredictor, Graph
from mendel.serving.acceleration.proof import accelerated
from mendel.serving.input_codec import InputCodec
from mendel.serving.row_batches import Frame, assemble

pytest.importorskip("onnx", reason='install "mendel[onnx]"')
pytest.importorskip("onnxruntime", reason='install "mendel[onnx]"')

ROWS = 240
RNG = np.random.default_rng(3)
NUMBERS = pd.DataFrame({f"f {place}": RNG.normal(size=ROWS) for place in range(4)})
CLASSES = np.digitize(NUMBERS["f 0"] + NUMBERS["f 1"] ** 2, [0.3, 1.2])
TEXTS = NUMBERS.assign(city=np.resize(["Ulm", "Bonn", "Köln"], ROWS), floor=np.arange(ROWS) % 7, let=CLASSES > 1)
HOLES = NUMBERS.assign(**{"f 2": NUMBERS["f 2"].where(np.arange(ROWS) % 5 > 0)})
WHOLE = pd.DataFrame({"id": np.arange(ROWS) * 10**6, "count": np.arange(ROWS) % 9})


def by_column(*, unknown: str = "ignore") -> ColumnTransformer:
    return ColumnTransformer(
        [
            ("city", OneHotEncoder(handle_unknown=unknown), ["city"]),
            ("f", make_pipeline(SimpleImputer(), StandardScaler()), ["f 0", "f 1"]),
        ],
        remainder="passthrough",
    )


def forest(trees: int = 5) -> RandomForestClassifier:
    return RandomForestClassifier(trees, random_state=0)


def loaded(directory: Path, model: Any, rows: pd.DataFrame, truth: Any = CLASSES) -> Predictor:
    """Fit *model*, write it, and load it as a server does."""
    write_artifact(model.fit(rows, truth), directory, training=rows)
    return load_predictor(directory, digest=None, project=None)


def quick(predictor: Predictor, directory: Path) -> AcceleratedPredictor:
    return accelerated(predictor, read_probe(directory), rng=np.random.default_rng(0))


def frame(predictor: Predictor, records: list[dict[str, Any]]) -> Frame:
    codec = InputCodec(predictor.descriptor.contract, order=predictor.descriptor.order, max_rows=100)
    return assemble([codec.decode(Records(rows=records))])


CONVERTED = {
    "forest": (forest(), HOLES, np.array(["a", "b", "c"])[CLASSES]),
    "one leaf": (DecisionTreeClassifier(min_samples_leaf=ROWS), NUMBERS),
    "boosting": (GradientBoostingRegressor(n_estimators=8), NUMBERS, NUMBERS["f 0"] * 3),
    "histogram boosting": (HistGradientBoostingClassifier(max_iter=6), HOLES, CLASSES > 0),
    "whole numbers": (forest(), WHOLE),
    "logistic regression": (LogisticRegression(), NUMBERS),
    "perceptron": (MLPClassifier((8,), max_iter=300, tol=0.1), NUMBERS, CLASSES > 0),
    "scaled boosting": (make_pipeline(RobustScaler(), HistGradientBoostingClassifier(max_iter=4)), NUMBERS),
    "columns by name": (make_pipeline(by_column(), MinMaxScaler(), forest()), TEXTS),
    "columns by name, linear": (make_pipeline(by_column(unknown="error"), LogisticRegression(max_iter=500)), TEXTS),
}


@pytest.fixture(scope="module")
def proven(tmp_path_factory):
    """Give a kind of model as loaded, and as its graph answers; each is proven once."""

    @functools.cache
    def prove(kind: str) -> tuple[Predictor, AcceleratedPredictor]:
        directory = tmp_path_factory.mktemp("models") / "a"
        original = loaded(directory, *CONVERTED[kind])
        return original, quick(original, directory)

    return prove


class TestConverted:
    @pytest.mark.parametrize("kind", CONVERTED)
    def test_models_that_are_proven(self, kind, proven):
        """Graphs of these models give their answers at and beside every threshold, and say which libraries run them."""
        _, made = proven(kind)
        assert made.descriptor.acceleration.accelerated == "onnx"
        assert set(made.descriptor.acceleration.libraries) == {"onnx", "onnxruntime", "scikit-learn"}

    def test_rows_outside_of_the_proof_get_the_models_answer(self, proven):
        """A number beyond float32 or a text that the model refuses is refused as the loaded model refuses it."""
        original, made = proven("columns by name, linear")
        row = TEXTS.iloc[0].to_dict()
        assert made.predict(frame(made, [row])).predictions == original.predict(frame(original, [row])).predictions
        with pytest.raises(ModelFailed, match="unknown categories"):
            made.predict(frame(made, [row | {"city": "Rom"}]))
        _, trees = proven("forest")
        with pytest.raises(ModelFailed, match=r"overflow encountered|too large"):
            trees.predict(frame(trees, [dict.fromkeys(NUMBERS, 1e300)]))

    def test_whole_numbers_that_are_no_doubles(self, proven):
        """A whole number beyond 2^53 never reaches the graph."""
        _, made = proven("whole numbers")
        covered = [made.covers(made.graph_input(frame(made, [{"id": number, "count": 1}]))) for number in (7, 2**53)]
        assert covered == [True, False]

    def test_rows_between_two_classes_get_the_models_answer(self, tmp_path):
        """Where two classes are equally probable, rounding decides; so the model answers, with its own rule."""
        rows = pd.DataFrame({"x": [0.0, 0, 1, 1, 1, 2, 2, 2]})
        model = GradientBoostingClassifier(n_estimators=3, max_depth=2)
        original = loaded(tmp_path / "a", model, rows, [0, 1, 1, 1, 1, 0, 0, 0])
        made = quick(original, tmp_path / "a")
        assert made.predict(frame(made, [{"x": 0.0}])).predictions == [int(model.predict(rows[:1])[0])] == [1]
        assert made.predict(frame(made, [{"x": 1.0}])).predictions == [1]

    def test_a_null_that_was_not_compared_gets_the_models_answer(self, proven):
        """Nulls are answered by the graph only in columns in which they were compared."""
        _, made = proven("forest")
        given = made.graph_input(frame(made, [dict.fromkeys(made.descriptor.contract.names, 1.0)]))
        assert made.covers(given)
        assert not made.covers(replace(given, numbers=np.full_like(given.numbers, np.nan)))

    def test_a_graph_that_fails_is_replaced_by_the_model(self, proven, monkeypatch):
        """A fault of onnxruntime is no error for the caller."""
        original, made = proven("forest")
        rows = frame(made, [dict.fromkeys(made.descriptor.contract.names, 1.0)])
        monkeypatch.setattr(Graph, "run", lambda *_: 1 / 0)
        with capture_logs() as lines:
            for _ in range(2):
                assert made.predict(rows).probabilities == original.predict(rows).probabilities
        assert [line["event"] for line in lines] == ["graph_failed"]


class TestDeclined:
    def test_rounded_thresholds_are_found(self, tmp_path, monkeypatch):
        """A conversion that rounds thresholds to float32 answers the probe rows rightly, and is found beside them."""
        written = tree_graphs._Splits

        class Rounded(written):
            def __init__(self, trees):
                super().__init__(trees)
                self.thresholds = self.thresholds.astype(np.float32).astype(np.float64)

        boosting = loaded(tmp_path / "a", HistGradientBoostingClassifier(max_iter=6), NUMBERS)
        scaled = loaded(tmp_path / "b", make_pipeline(StandardScaler(), forest()), NUMBERS)
        monkeypatch.setattr(tree_graphs, "_Splits", Rounded)
        for original, name in ((boosting, "a"), (scaled, "b")):
            with pytest.raises(
                Unsupported,
                match=r"^beside a threshold or an extreme, the converted model has another pr",
            ):
                quick(original, tmp_path / name)

    @pytest.mark.parametrize(
        ("model", "rows", "reason"),
        [
            (make_pipeline(SelectKBest(k=2), LogisticRegression()), NUMBERS, "SelectKBest cannot be converted"),
            (
                make_pipeline(StandardScaler(), forest()),
                NUMBERS.astype("float32"),
                "calculate in float32",
            ),
        ],
    )
    def test_other_models(self, model, rows, reason, tmp_path):
        """What is not converted, or scales in single precision, stays with the loaded model."""
        with pytest.raises(Unsupported, match=reason):
            quick(loaded(tmp_path / "a", model, rows), tmp_path / "a")

    def test_without_probe_rows_or_package(self, tmp_path, monkeypatch):
        """Without probe rows nothing is proven, and an absent package is named with the extra."""
        original = loaded(tmp_path / "a", forest(), NUMBERS)
        with pytest.raises(Unsupported, match="no probe rows"):
            accelerated(original, None, rng=np.random.default_rng(0))
        monkeypatch.setitem(sys.modules, "onnxruntime", None)
        with pytest.raises(Unsupported, match=r"'onnxruntime' is not installed: pip install \"mendel\[onnx\]\""):
            quick(original, tmp_path / "a")
