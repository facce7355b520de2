"""The caller's own code: pickled with the model, packed with the artefact, or refused."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap

import joblib
import numpy as np
import pytest
import yaml
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from mendel.adapters.processes.trial_load import require_loadable_elsewhere
from mendel.errors import InvalidInput, ModelNotLoadable, Unsupported
from mendel.serving import (
    carries_code,
    frame_of,
    load_predictor,
    read_mlmodel,
    write_artifact,
)
from mendel.values import Table
from support.imported_modules import forget_modules_below

X = np.random.default_rng(0).normal(size=(40, 2))
Y = (X[:, 0] > 0).astype(int)
TABLE = Table({"a": X[:, 0], "b": X[:, 1]})

STEP = """
    import numpy as np
    from sklearn.base import BaseEstimator, TransformerMixin
    from own_package import scale

    class Step(TransformerMixin, BaseEstimator):
        def fit(self, X, y=None):
            self.fitted_ = True
            return self

        def transform(self, X):
            import own_package.later
            return np.asarray(X) * scale.FACTOR * own_package.later.SIGN
"""


@pytest.fixture
def own_modules(tmp_path, monkeypatch):
    """Write modules that only this process can import, with another sign on each call, and give their paths."""

    def make(name, sign):
        root = tmp_path / name
        (root / "own_package").mkdir(parents=True)
        (root / "own_step.py").write_text(textwrap.dedent(STEP))
        (root / "own_package/__init__.py").write_text("")
        (root / "own_package/scale.py").write_text("FACTOR = 2.0")
        (root / "own_package/later.py").write_text(f"SIGN = {sign}")
        (root / "own_package/.hidden").write_text("")
        forget_modules_below(tmp_path)
        monkeypatch.syspath_prepend(str(root))
        return root, importlib.import_module("own_step").Step()

    yield make
    monkeypatch.undo()  # it puts modules back
    forget_modules_below(tmp_path)


def fitted(step):
    return make_pipeline(step, LogisticRegression()).fit(X, Y)


def answers(directory):
    predictor = load_predictor(directory, digest=None, project=None)
    return predictor, predictor.predict(frame_of(TABLE, predictor.descriptor.contract)).predictions


def test_a_module_that_is_not_installed_is_pickled_with_the_model(own_modules, tmp_path, monkeypatch):
    """Where the module and what the module imports cannot be found, the model still answers the same."""
    _, step = own_modules("trainer", 1)
    importlib.import_module("own_package.later")
    model = fitted(step)
    write_artifact(model, tmp_path / "a", training=TABLE)
    section = read_mlmodel(tmp_path / "a").flavors["sklearn"]
    assert section["pickled_by_value"] == ["own_package.scale", "own_step"]
    monkeypatch.setattr(sys, "path", [place for place in sys.path if "trainer" not in place])
    for module in ("own_step", "own_package", "own_package.scale"):
        monkeypatch.delitem(sys.modules, module)
    assert load_predictor(tmp_path / "a", digest=None, project=None).descriptor.class_name == "Pipeline"


def test_a_lambda_is_pickled_with_the_model(tmp_path):
    """A function without a name needs no file of the caller."""
    model = fitted(FunctionTransformer(lambda rows: rows * 3))
    write_artifact(model, tmp_path / "a", training=TABLE)
    assert carries_code(read_mlmodel(tmp_path / "a"))
    assert answers(tmp_path / "a")[1] == model.predict(X).tolist()
    require_loadable_elsewhere(tmp_path / "a")


SCRIPT = """
import hashlib
from typing import Generic, TypeVar
from mendel.serving.flavours.pickled_model import pickled_model

T = TypeVar("T")

class Part(Generic[T]):
    def go(self, x):
        return x * 2

class Model(Part[int]):
    parts = (Part(), Part())

content = pickled_model(Model(), packed=lambda _: False).content
print(hashlib.sha256(content).hexdigest())
"""


def test_a_class_of_a_script_is_the_same_bytes_in_every_run():
    """Two runs of one script give one digest: nothing in the pickle is random."""
    runs = [subprocess.Popen([sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    first, second = (run.communicate(timeout=120)[0].strip() for run in runs)
    assert first == second != ""


def test_classes_of_two_models_of_one_process_stay_apart(tmp_path):
    """A class that was changed and pickled again under its name is another class, whatever else was loaded."""
    answered = []
    for factor in (1.0, 2.0):

        class Model(BaseEstimator):
            def __init__(self, factor=factor):
                self.factor = factor

            def fit(self, x, y=None):
                return self

            def predict(self, x, by=factor):
                return np.asarray(x)[:, 0] * by

        Model.__module__ = "__main__"
        write_artifact(Model().fit(X), tmp_path / str(factor), training=TABLE)
        answered.append(answers(tmp_path / str(factor))[1])
    assert np.allclose(answered[0], X[:, 0])
    assert np.allclose(answered[1], 2 * X[:, 0])


def test_a_model_of_installed_classes_carries_no_code(tmp_path):
    """Nothing is tried in another process for an ordinary model."""
    write_artifact(fitted("passthrough"), tmp_path / "a", training=TABLE)
    assert not carries_code(read_mlmodel(tmp_path / "a"))


def test_two_versions_with_other_code_under_one_name_answer_each_with_its_own(own_modules, tmp_path):
    """Packed modules belong to their version, those imported while predicting too, and none is left behind."""
    for name, sign in (("first", 1), ("second", -1)):
        root, step = own_modules(name, sign)
        model = fitted(step)
        model[-1].coef_ = np.array([[1.0, 0.0]])
        model[-1].intercept_ = np.array([0.0])
        write_artifact(
            model, tmp_path / f"{name}-a", training=TABLE, code_paths=[root / "own_step.py", root / "own_package"]
        )
        files = sorted(str(f.relative_to(tmp_path / f"{name}-a/code")) for f in (tmp_path / f"{name}-a").rglob("*.py"))
        assert files == ["own_package/__init__.py", "own_package/later.py", "own_package/scale.py", "own_step.py"]
        assert not (tmp_path / f"{name}-a/code/own_package/.hidden").exists()
    for module in [m for m in sys.modules if m.partition(".")[0] in {"own_step", "own_package"}]:
        del sys.modules[module]
    predictors = [load_predictor(tmp_path / f"{name}-a", digest=None, project=None) for name in ("first", "second")]
    frame = frame_of(TABLE, predictors[0].descriptor.contract)
    positive = (X[:, 0] > 0).astype(int).tolist()
    assert predictors[0].predict(frame).predictions == positive
    assert predictors[1].predict(frame).predictions == [1 - answer for answer in positive]
    assert predictors[0].predict(frame).predictions == positive
    assert not {"own_step", "own_package"} & sys.modules.keys()
    require_loadable_elsewhere(tmp_path / "first-a")


def test_a_module_that_was_forgotten_is_refused_with_the_way_out(own_modules, tmp_path):
    """Packed code that needs a module of the caller's cannot be loaded elsewhere."""
    root, step = own_modules("half", 1)
    write_artifact(fitted(step), tmp_path / "a", training=TABLE, code_paths=[root / "own_step.py"])
    with pytest.raises(Unsupported, match=r"own_package.*code_paths="):
        require_loadable_elsewhere(tmp_path / "a")


def test_a_model_that_cannot_be_pickled_is_refused(tmp_path):
    """An open file in a model is named as what cannot be pickled."""
    model = LogisticRegression().fit(X, Y)
    with (
        (tmp_path / "log").open("w") as model.log,
        pytest.raises(InvalidInput, match=r"cannot be pickled.*Remove open"),
    ):
        write_artifact(model, tmp_path / "a")


def test_code_of_another_python_is_not_unpickled(tmp_path):
    """Byte-code belongs to one version of Python: the artefact says so instead of crashing."""
    write_artifact(fitted(FunctionTransformer(lambda rows: rows)), tmp_path / "a")
    mlmodel = tmp_path / "a/MLmodel"
    document = yaml.safe_load(mlmodel.read_text())
    document["flavors"]["python_function"]["python_version"] = "3.9.2"
    mlmodel.write_text(yaml.safe_dump(document))
    with pytest.raises(ModelNotLoadable, match=r"Python 3\.9\.2.*code_paths="):
        load_predictor(tmp_path / "a", digest=None, project=None)


@pytest.mark.parametrize("kind", ["link out", "link to a directory", "twice", "text"])
def test_code_paths_hold_their_own_files_only(tmp_path, kind):
    """Links that lead out, two paths of one name, and a text in place of a list are refused."""
    inside = tmp_path / "inside"
    (inside / "deep").mkdir(parents=True)
    (inside / "module.py").write_text("")
    (tmp_path / "secret").write_text("")
    given = [inside]
    match kind:
        case "link out":
            (inside / "out").symlink_to(tmp_path / "secret")
        case "link to a directory":
            (inside / "round").symlink_to(inside / "deep")
        case "twice":
            given = [inside, tmp_path / "inside"]
        case "text":
            given = str(inside)
    with pytest.raises(InvalidInput, match="code_paths"):
        write_artifact(LogisticRegression().fit(X, Y), tmp_path / "a", code_paths=given)


def test_a_code_directory_outside_the_artefact_is_not_imported(tmp_path):
    """An MLmodel cannot name code of the server."""
    write_artifact(LogisticRegression().fit(X, Y), tmp_path / "a")
    mlmodel = tmp_path / "a/MLmodel"
    mlmodel.write_text(mlmodel.read_text().replace("code: null", "code: ../.."))
    with pytest.raises(ModelNotLoadable, match=r"no directory '\.\./\.\.'"):
        load_predictor(tmp_path / "a", digest=None, project=None)


def test_a_joblib_artefact_of_an_older_version_is_loaded(tmp_path):
    """Artefacts that were written before MLflow could load them keep serving."""
    model = LogisticRegression().fit(X, Y)
    joblib.dump(model, tmp_path / "model.joblib")
    section = {"pickled_model": "model.joblib", "serialization_format": "joblib", "sklearn_version": "1.9.1"}
    (tmp_path / "MLmodel").write_text(yaml.safe_dump({"flavors": {"sklearn": section}}))
    predictor = load_predictor(tmp_path, digest=None, project=None)
    assert predictor.predict(frame_of(TABLE, None)).predictions == model.predict(X).tolist()
