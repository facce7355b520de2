"""Artefacts: written, read back, and kept apart."""

from __future__ import annotations

import sys
from pathlib import Path

import cloudpickle
import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mendel.drift import Reference
from mendel.errors import DigestMismatch, InvalidValue, ModelNotLoadable
from mendel.projects import Project, load_project
from mendel.serving import (
    Matrix,
    Records,
    TrainedClassifier,
    frame_of,
    infer_signature,
    load_predictor,
    outputs_of,
    read_mlmodel,
    write_artifact,
)
from mendel.serving.input_codec import InputCodec
from mendel.serving.project_imports import ProjectModules
from mendel.serving.row_batches import assemble
from mendel.values import ColumnType, Table
from mendel.values.data_frames import as_table
from mendel.values.directory_trees import tree_digest

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 3))
Y = (X[:, 0] > 0).astype(int)
TABLE = Table({name: X[:, place] for place, name in enumerate("abc")})


def predict(predictor, rows):
    codec = InputCodec(predictor.descriptor.contract, order=predictor.descriptor.order, max_rows=1000)
    return predictor.predict(assemble([codec.decode(Matrix(rows=rows))]))


def project(directory: Path, code: str, **kinds: str) -> Project:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.py").write_text(code)
    sections = "".join(
        f"  {name}:\n    predictor: {{module: model.py, class_name: {kind}}}\n" for name, kind in kinds.items()
    )
    (directory / "mlserver.yaml").write_text(f"classifiers:\n{sections}")
    return load_project(directory)


def test_an_estimator_comes_back_as_it_was_written(tmp_path):
    """A written artefact answers as the estimator, has a signature, golden rows and a reference with its outputs."""
    model = LogisticRegression().fit(X, Y)
    digest = write_artifact(model, tmp_path / "a", training=TABLE)
    assert digest == tree_digest(tmp_path / "a")
    signature = read_mlmodel(tmp_path / "a").signature
    assert signature is not None
    assert signature.names == ("a", "b", "c")
    predictor = load_predictor(tmp_path / "a", digest=digest, project=None)
    outputs = predict(predictor, X.tolist())
    assert outputs.predictions == model.predict(X).tolist()
    np.testing.assert_allclose(outputs.matrix, model.predict_proba(X))
    assert predictor.descriptor.classes == (0, 1)
    reference = Reference.from_json((tmp_path / "a/mendel/reference.json").read_bytes())
    assert reference.names == ("a", "b", "c", "prediction", "proba.0", "proba.1")
    assert not reference.out_of_range(TABLE).any()


def test_an_estimator_of_another_scikit_learn_is_loaded_without_a_word(tmp_path, monkeypatch):
    """Its warning about the two versions is not shown; the descriptor names both."""
    with monkeypatch.context() as older:
        older.setattr("sklearn.base.__version__", "0.1")
        write_artifact(LogisticRegression().fit(X, Y), tmp_path / "a", training=TABLE)
    assert b"_sklearn_version" in (tmp_path / "a/model.pkl").read_bytes()
    predictor = load_predictor(tmp_path / "a", digest=None, project=None)
    assert len(predict(predictor, X.tolist()).predictions) == len(X)


def test_the_same_model_gives_the_same_digest(tmp_path):
    """Nothing of the clock or the machine is in an artefact."""
    digests = {write_artifact(LogisticRegression().fit(X, Y), tmp_path / name, training=TABLE) for name in "ab"}
    assert len(digests) == 1


def test_a_directory_in_use_is_not_written_to(tmp_path):
    """An artefact's directory must be empty."""
    (tmp_path / "x").write_text("")
    with pytest.raises(InvalidValue):
        write_artifact(LogisticRegression().fit(X, Y), tmp_path)


def test_other_content_is_refused_before_it_is_read(tmp_path):
    """One changed byte is a DigestMismatch."""
    digest = write_artifact(LogisticRegression().fit(X, Y), tmp_path / "a", training=TABLE)
    with (tmp_path / "a/model.pkl").open("ab") as file:
        file.write(b"x")
    with pytest.raises(DigestMismatch):
        load_predictor(tmp_path / "a", digest=digest, project=None)


def test_a_cloudpickle_as_mlflow_writes_it_is_loaded(tmp_path):
    """The artefact of mlflow.sklearn's default format is served without MLflow."""
    model = LogisticRegression().fit(X, Y)
    (tmp_path / "model.pkl").write_bytes(cloudpickle.dumps(model))
    sklearn = {"pickled_model": "model.pkl", "serialization_format": "cloudpickle", "sklearn_version": "1.9.1"}
    python_function = {"loader_module": "mlflow.sklearn", "model_path": "model.pkl", "predict_fn": "predict"}
    flavors = {"python_function": python_function, "sklearn": sklearn}
    (tmp_path / "MLmodel").write_text(yaml.safe_dump({"flavors": flavors, "mlflow_version": "3.17.2"}))
    predictor = load_predictor(tmp_path, digest=None, project=None)
    assert predict(predictor, X[:5].tolist()).predictions == model.predict(X[:5]).tolist()


def test_skops_is_loaded(tmp_path):
    """A skops file is read with its own guard."""
    import skops.io  # noqa: PLC0415 - a second, and every worker imports this file

    tmp_path.joinpath("m").mkdir()
    model = LogisticRegression().fit(X, Y)
    skops.io.dump(model, tmp_path / "m/model.skops")
    flavor = {"pickled_model": "model.skops", "serialization_format": "skops"}
    (tmp_path / "m/MLmodel").write_text(yaml.safe_dump({"flavors": {"sklearn": flavor}}))
    predictor = load_predictor(tmp_path / "m", digest=None, project=None)
    assert predict(predictor, X[:5].tolist()).predictions == model.predict(X[:5]).tolist()


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"flavors": {"prophet": {}}}, "predictor of a project"),
        ({"flavors": {}}, "predictor of a project"),
        ({"flavors": {"sklearn": {"pickled_model": "../../etc/passwd"}}}, "outside"),
        ({"flavors": {"sklearn": {"pickled_model": "gone.pkl"}}}, "FileNotFoundError"),
        ({"flavors": {"sklearn": {"pickled_model": "junk.pkl"}}}, "Unpickling"),
        ({"flavors": {"sklearn": {"pickled_model": "junk.pkl", "serialization_format": "onnx"}}}, "'onnx'"),
        ({"flavors": {"mendel": {"classifier": "credit"}}}, "hosts no project"),
        ([], "no valid MLmodel file"),
    ],
)
def test_what_cannot_be_loaded_says_why(tmp_path, document, says):
    """Every broken artefact is a ModelNotLoadable that names the reason."""
    (tmp_path / "junk.pkl").write_bytes(b"junk")
    (tmp_path / "MLmodel").write_text(yaml.safe_dump(document))
    with pytest.raises(ModelNotLoadable) as caught:
        load_predictor(tmp_path, digest=None, project=None)
    assert says in str(caught.value)


def test_no_mlmodel_is_not_loadable(tmp_path):
    """A directory without MLmodel is no artefact."""
    with pytest.raises(ModelNotLoadable):
        load_predictor(tmp_path, digest=None, project=None)


def test_estimators_fitted_on_frames_take_arrays_without_a_word(tmp_path):
    """Names learned in training neither warn nor cost a DataFrame per call."""
    frame = pd.DataFrame(X, columns=list("abc"))
    model = make_pipeline(StandardScaler(), RandomForestClassifier(5, random_state=0)).fit(frame, Y)
    write_artifact(model, tmp_path / "a", training=frame)
    predictor = load_predictor(tmp_path / "a", digest=None, project=None)
    assert not predictor.descriptor.dataframe
    assert predict(predictor, X.tolist()).predictions == model.predict(frame).tolist()


def test_pipelines_that_select_by_name_get_frames(tmp_path):
    """A ColumnTransformer over text and numbers is served with named columns."""
    frame = pd.DataFrame({"age": X[:, 0], "city": ["Ulm", "Bonn"] * 40})
    columns = ColumnTransformer([("city", OneHotEncoder(), ["city"])], remainder="passthrough")
    model = make_pipeline(columns, LogisticRegression()).fit(frame, Y)
    write_artifact(model, tmp_path / "a", training=frame)
    predictor = load_predictor(tmp_path / "a", digest=None, project=None)
    signature = infer_signature(frame)
    assert [column.type for column in signature.inputs] == [ColumnType.DOUBLE, ColumnType.STRING]
    codec = InputCodec(predictor.descriptor.contract, order=None, max_rows=10)
    rows = codec.decode(Records(rows=[{"city": "Ulm", "age": 3.0}]))
    expected = model.predict(pd.DataFrame({"age": [3.0], "city": ["Ulm"]})).tolist()
    assert predictor.predict(assemble([rows])).predictions == expected


def test_two_projects_with_modules_of_one_name_stay_apart(tmp_path):
    """Each project finds its own model.py and its own helper, early and late, and leaves nothing in sys.modules."""
    code = """
import helper
class P:
    def predict(self, X):
        import later
        from helper import NAME
        return [f"{helper.NAME}/{NAME}/{later.NAME}"] * len(X)
"""
    predictors = []
    for name in ("one", "two"):
        root = tmp_path / name
        found = project(root, code, p="P")
        for module in ("helper", "later"):
            (root / f"{module}.py").write_text(f"NAME = {name!r}")
        artefact = tmp_path / f"{name}-artefact"
        write_artifact(TrainedClassifier(name="p"), artefact, project=found)
        predictors.append(load_predictor(artefact, digest=None, project=found))
    answers = [predict(predictor, [[1.0]]).predictions for predictor in (*predictors, predictors[0])]
    assert answers == [["one/one/one"], ["two/two/two"], ["one/one/one"]]
    assert not {"model", "helper", "later"} & sys.modules.keys()
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_module_that_others_imported_is_left_as_it_was(tmp_path):
    """A foreign module of the same name is hidden while the project loads, and then back."""
    foreign = sys.modules["model"] = type(sys)("model")
    try:
        (tmp_path / "model.py").write_text("OWN = True")
        assert ProjectModules(tmp_path).load("model").OWN
        assert sys.modules["model"] is foreign
    finally:
        del sys.modules["model"]


def test_who_is_just_looking_for_a_module_skips_no_finder(tmp_path):
    """Opening and closing a project's namespace leaves alone the list of finders that another thread is walking."""
    walked = sys.meta_path
    before = list(walked)
    with ProjectModules(tmp_path).opened():
        assert walked == before
        assert sys.meta_path[1:] == before
    assert (walked, sys.meta_path) == (before, before)


def test_an_artefact_with_its_projects_files_needs_no_host(tmp_path):
    """It runs with its own code where another release of the project, or no project, is hosted."""
    predictors = []
    for name in ("one", "two"):
        hosted = project(tmp_path / name, f"class P:\n    def predict(self, X): return [{name!r}] * len(X)", p="P")
        files = {path.name: path for path in hosted.root.iterdir()}
        artefact = tmp_path / f"{name}-artefact"
        digest = write_artifact(TrainedClassifier(name="p", files=files), artefact, project=None)
        predictors.append(load_predictor(artefact, digest=digest, project=None if name == "one" else hosted))
        assert read_mlmodel(artefact).carries_project
    (tmp_path / "two" / "model.py").write_text("raise RuntimeError")
    predictors.append(load_predictor(artefact, digest=digest, project=hosted))
    assert [predict(one, [[1.0]]).predictions for one in predictors] == [["one"], ["two"], ["two"]]


def test_an_artefact_without_the_files_that_it_names_is_refused(tmp_path):
    """The error says which directory is missing, or what its project lacks."""
    hosted = project(tmp_path / "p", "class P:\n    def predict(self, X): return X", p="P")
    files = {path.name: path for path in hosted.root.iterdir()}
    write_artifact(TrainedClassifier(name="p", files=files), tmp_path / "a", project=None)
    (tmp_path / "a" / "project" / "mlserver.yaml").unlink()
    with pytest.raises(ModelNotLoadable, match="project in the artefact"):
        load_predictor(tmp_path / "a", digest=None, project=hosted)
    (tmp_path / "a" / "project").rename(tmp_path / "elsewhere")
    with pytest.raises(ModelNotLoadable, match="no directory 'project'"):
        load_predictor(tmp_path / "a", digest=None, project=hosted)


def test_a_class_that_wants_the_versions_directory_gets_it(tmp_path):
    """model_dir is passed when the constructor declares it, beside init_kwargs."""
    code = """
from pathlib import Path
class P:
    def __init__(self, scale=1, model_dir=None):
        self.weight = float((Path(model_dir) / "weight.txt").read_text()) * scale
    def predict(self, X):
        return X[:, 0] * self.weight
"""
    found = project(tmp_path / "project", code, p="P")
    artefact = tmp_path / "artefact"
    artefact.mkdir()
    (artefact / "weight.txt").write_text("3")
    digest = write_artifact(TrainedClassifier(name="p"), artefact, project=found, training=Table({"a": np.arange(5.0)}))
    predictor = load_predictor(artefact, digest=digest, project=found)
    assert predict(predictor, [[2.0]]).predictions == [6.0]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import nothing_of_that_name", "nothing_of_that_name"),
        ("class Q: pass", "no class P"),
        ("class P: pass", "no method predict"),
        ("class P:\n    def __init__(self): raise RuntimeError('no licence')", "no licence"),
        ("class P(:", "SyntaxError"),
    ],
)
def test_code_that_cannot_be_built_says_why(tmp_path, code, says):
    """A project's broken code is a ModelNotLoadable that names the reason; the code's own words are its detail."""
    found = project(tmp_path / "project", code, p="P")
    write_artifact(TrainedClassifier(name="p"), tmp_path / "artefact", project=found)
    with pytest.raises(ModelNotLoadable) as caught:
        load_predictor(tmp_path / "artefact", digest=None, project=found)
    assert says in f"{caught.value} {caught.value.detail}"


def test_closing_closes_the_model_once_and_forgives_it(tmp_path):
    """close() of the model is called; what it raises is a warning."""
    code = "class P:\n    def predict(self, X): return X\n    def close(self): raise OSError('gone')"
    found = project(tmp_path / "project", code, p="P")
    write_artifact(TrainedClassifier(name="p"), tmp_path / "artefact", project=found)
    predictor = load_predictor(tmp_path / "artefact", digest=None, project=found)
    with pytest.warns(RuntimeWarning, match="gone"):
        predictor.close()


def test_signatures_are_inferred_with_their_gaps():
    """Numbers are doubles, text strings, truth booleans; a gap makes a column optional."""
    table = as_table(Table({
        "n": np.array([1.0, np.nan]),
        "t": np.array(["a", None], dtype=object),
        "b": np.array([True, False]),
    }))  # fmt: skip
    specs = infer_signature(table, np.array([1, 0])).inputs
    assert [(s.name, s.type, s.required) for s in specs] == [
        ("n", ColumnType.DOUBLE, False), ("t", ColumnType.STRING, False), ("b", ColumnType.BOOLEAN, True),
    ]  # fmt: skip
    assert infer_signature(np.zeros((2, 2), dtype=int)).names == ("x0", "x1")
    with pytest.raises(InvalidValue):
        infer_signature(np.zeros(3))


def test_replayed_rows_answer_like_requests(tmp_path):
    """frame_of and outputs_of give the log's columns for a table."""
    write_artifact(LogisticRegression().fit(X, np.where(Y, "yes", "no")), tmp_path / "a", training=TABLE)
    predictor = load_predictor(tmp_path / "a", digest=None, project=None)
    columns = outputs_of(predictor, frame_of(TABLE, predictor.descriptor.contract))
    assert set(columns) == {"prediction", "proba.no", "proba.yes"}
    assert set(columns["prediction"]) == {"no", "yes"}
