"""The contract of Flavour, over the table of flavours."""

from __future__ import annotations

import shutil
import sys
import types
import warnings
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from mendel.errors import ModelNotLoadable, Unsupported
from mendel.projects import load_project
from mendel.serving import FLAVOURS, TrainedClassifier, flavour_for, flavour_of, frame_of, read_mlmodel, write_artifact
from mendel.serving.artifact_loading import load_predictor
from mendel.values.directory_trees import tree_digest
from support.flavour_samples import SAMPLES, TABLE, X

ABSENT = "a_package_that_is_not_installed"
CODE = f"""
import numpy as np
class Threshold:
    classes_ = np.array(["no", "yes"])
    def predict(self, X):
        return self.classes_[(X[:, 0] > 0).astype(int)]
    def predict_proba(self, X):
        p = 1 / (1 + np.exp(-X[:, 0]))
        return np.column_stack([1 - p, p])
class Needy:
    def __init__(self):
        import {ABSENT}
    def predict(self, X):
        return X[:, 0]
class Broken:
    def __init__(self):
        raise RuntimeError("no licence")
    def predict(self, X):
        return X[:, 0]
"""


ESTIMATOR = """
class Estimator:
    def fit(self, X, y): return self
    def predict(self, X): return X[:, 0]
    def get_params(self, deep=True): return {}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    directory = tmp_path_factory.mktemp("project")
    (directory / "models.py").write_text(CODE)
    kinds = {"threshold": "Threshold", "needy": "Needy", "broken": "Broken"}
    sections = [f"  {name}: {{predictor: {{module: models, class_name: {kind}}}}}" for name, kind in kinds.items()]
    (directory / "mlserver.yaml").write_text("\n".join(["classifiers:", *sections]))
    return load_project(directory)


def test_every_flavour_has_a_sample():
    """Names are unique, and a flavour that is added to the table is tested here; ``remote`` has no model to try."""
    names = [flavour.name for flavour in FLAVOURS]
    assert len(set(names)) == len(names)
    made = {"estimator": "sklearn", "project": "mendel", "torch": "pytorch", "python": "python_function"}
    assert {made.get(sample.partition("_")[0], sample.partition("_")[0]) for sample in SAMPLES} == set(names) - {
        "remote"
    }


def _estimator_of_an_absent_package(directory: Path) -> Any:
    """An estimator of a class that pickles by its name in ABSENT, a module in a directory of installed packages."""
    module = types.ModuleType(ABSENT)
    module.__file__ = str(directory / "site-packages" / f"{ABSENT}.py")
    exec(ESTIMATOR, vars(module))  # noqa: S102 - the text above
    return vars(module)["Estimator"]()


def _home(estimator: Any) -> Any:
    """The module in which the class of *estimator* was defined."""
    module = types.ModuleType(ABSENT)
    if hasattr(estimator, "get_params"):
        vars(module).update(type(estimator).get_params.__globals__)
    return module


@pytest.fixture(scope="module", params=SAMPLES)
def sample(request, project):
    made = SAMPLES[request.param]()
    return replace(made, project=project) if made.flavour == "mendel" else made


@pytest.fixture(scope="module")
def flavour(sample):
    return next(flavour for flavour in FLAVOURS if flavour.name == sample.flavour)


@pytest.fixture(scope="module")
def artifact(flavour, sample, tmp_path_factory):
    """The artefact of the sample, written once."""
    directory = tmp_path_factory.mktemp(flavour.name) / "artifact"
    write_artifact(sample.model, directory, training=TABLE, project=sample.project)
    return directory


def test_a_written_model_answers_as_before(sample, artifact):
    """Predictions, probabilities and classes are those of the model that was written."""
    predictor = load_predictor(artifact, digest=tree_digest(artifact), project=sample.project)
    outputs = predictor.predict(frame_of(TABLE, predictor.descriptor.contract))
    if isinstance(sample.answers[0], float):
        np.testing.assert_allclose(outputs.predictions, sample.answers, rtol=1e-6)
    else:
        assert outputs.predictions == sample.answers
    assert (outputs.matrix is None) == (sample.probabilities is None)
    if outputs.matrix is not None:
        np.testing.assert_allclose(outputs.matrix, sample.probabilities, rtol=1e-6)
    assert predictor.descriptor.classes == sample.classes


@pytest.mark.parametrize("sample", sorted({*SAMPLES} - {"project_classifier", "estimator"}), indirect=True)
def test_a_frame_is_answered_as_an_array(flavour, sample):
    """A model of numbers answers the named columns of a frame as it answers the array."""
    answers = np.asarray(flavour.answering(sample.model).predict(pd.DataFrame(X, columns=list("abc")))).tolist()
    assert answers == pytest.approx(sample.answers) if isinstance(answers[0], float) else answers == sample.answers


@pytest.mark.parametrize("sample", sorted({*SAMPLES} - {"project_classifier", "onnx_classifier"}), indirect=True)
def test_plain_mlflow_answers_the_same(sample, artifact):
    """MLflow's own loader reads what every flavour but a project's writes; it cannot answer ONNX probabilities."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own use of other packages
        from mlflow import pyfunc  # noqa: PLC0415 - its import warns

        answers = pyfunc.load_model(str(artifact)).predict(pd.DataFrame(X, columns=list("abc")))
    column = answers.iloc[:, 0] if hasattr(answers, "iloc") else np.asarray(answers).ravel()
    assert list(column) == (pytest.approx(sample.answers) if isinstance(sample.answers[0], float) else sample.answers)


def test_a_flavour_recognises_its_own_models_and_no_other(flavour, sample):
    """No object is of two flavours, a class or a plain value is of none, and a flavour may be forced."""
    assert [known.name for known in FLAVOURS if known.recognises(sample.model)] == [flavour.name]
    assert flavour_for(sample.model) is flavour
    assert flavour_for(sample.model, flavour.name) is flavour
    with pytest.raises(Unsupported, match=f"Its flavour is '{flavour.name}'"):
        flavour_for(sample.model, "prophet")
    for nothing in (None, 3, "model", {}, LogisticRegression, TrainedClassifier):
        assert not flavour.recognises(nothing)
        assert not flavour.accepts(nothing)


def test_what_is_no_model_is_refused():
    """The error names what may be given."""
    for nothing in (None, 3, "model", {}, LogisticRegression, TrainedClassifier):
        with pytest.raises(Unsupported, match=r"torch\.nn\.Module"):
            flavour_for(nothing)


def test_the_same_model_gives_the_same_bytes(sample, artifact, tmp_path):
    """Nothing of the clock, the machine or the directory is in an artefact."""
    again = write_artifact(sample.model, tmp_path / "again", training=TABLE, project=sample.project)
    assert again == tree_digest(artifact)


def test_an_artefact_is_described_without_being_loaded(flavour, sample, artifact, tmp_path):
    """Signature, classes and versions are read from the MLmodel alone, whatever else lies there."""
    shutil.copy(artifact / "MLmodel", tmp_path)
    mlmodel = read_mlmodel(tmp_path)
    assert flavour_of(mlmodel) is flavour
    described = flavour.describe(mlmodel)
    assert described.flavour == flavour.name
    assert described.signature is not None
    assert described.signature.names == ("a", "b", "c")
    assert described.classes == (sample.classes if sample.told else None)
    assert mlmodel.libraries.items() >= (sample.written_with or {}).items()


@pytest.mark.parametrize("sample", sorted({*SAMPLES} - {"project_classifier", "estimator"}), indirect=True)
def test_the_extra_of_a_missing_package_is_named(sample, artifact, monkeypatch):
    """What a flavour needs beside the base install is told with the extra of Mendel that brings it."""
    package, extra = sample.package
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelNotLoadable, match=rf'pip install "mendel\[{extra}\]"'):
        load_predictor(artifact, digest=None, project=None)


def test_a_module_that_a_model_needs_is_named(project, monkeypatch, tmp_path):
    """A pickle, and a project's class, that import a package which is not installed say which."""
    estimator = _estimator_of_an_absent_package(tmp_path)
    with monkeypatch.context() as installed:
        installed.setitem(sys.modules, ABSENT, _home(estimator))
        write_artifact(estimator, tmp_path / "estimator")
    write_artifact(TrainedClassifier(name="needy"), tmp_path / "classifier", project=project)
    for kind in ("estimator", "classifier"):
        with pytest.raises(ModelNotLoadable, match=ABSENT) as caught:
            load_predictor(tmp_path / kind, digest=None, project=project)
        assert "Install" in caught.value.remedy


def test_a_model_that_cannot_be_loaded_says_why(flavour, sample, tmp_path):
    """Damaged files and code that raises are a ModelNotLoadable with the cause, not an error of a library."""
    write_artifact(sample.broken, tmp_path / "broken", project=sample.project)
    for file in (tmp_path / "broken").rglob("*"):
        if file.is_file() and file.name != "MLmodel":
            file.write_bytes(b"damaged")
    with pytest.raises(ModelNotLoadable, match="failed with"):
        flavour.load(tmp_path / "broken", read_mlmodel(tmp_path / "broken"), sample.project)


def test_other_versions_than_the_artefact_was_written_with_are_told(tmp_path):
    """When unpickling fails, the remedy names the versions that differ."""
    write_artifact(LogisticRegression(), tmp_path / "old")
    mlmodel = tmp_path / "old" / "MLmodel"
    mlmodel.write_text(
        mlmodel.read_text().replace(f"sklearn_version: {version('scikit-learn')}", "sklearn_version: 0.1")
    )
    (tmp_path / "old" / "model.pkl").write_bytes(b"damaged")
    with pytest.raises(ModelNotLoadable, match=r"scikit-learn 0\.1 \(here ") as caught:
        load_predictor(tmp_path / "old", digest=None, project=None)
    assert "python" not in caught.value.remedy


def test_another_scikit_learn_than_the_models_is_said_in_the_descriptor(tmp_path):
    """Both versions are told as values, without a warning of scikit-learn; equal versions are not told."""
    write_artifact(LogisticRegression().fit(X, X[:, 0] > 0), tmp_path / "old")
    assert load_predictor(tmp_path / "old", digest=None, project=None).descriptor.other_libraries == ()
    here = version("scikit-learn")
    old = f"0{here[1:]}"
    for name in ("MLmodel", "model.pkl"):
        path = tmp_path / "old" / name
        path.write_bytes(path.read_bytes().replace(here.encode(), old.encode()))
    descriptor = load_predictor(tmp_path / "old", digest=None, project=None).descriptor
    assert [str(one) for one in descriptor.other_libraries] == [f"scikit-learn {old} (here {here})"]
