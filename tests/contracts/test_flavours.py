"""The contract of Flavour, over the table of flavours."""

from __future__ import annotations

import shutil
import sys
import types
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mendel.errors import ModelNotLoadable, Unsupported
from mendel.projects import Project, load_project
from mendel.serving import FLAVOURS, TrainedClassifier, flavour_for, flavour_of, frame_of, read_mlmodel, write_artifact
from mendel.serving.artifact_loading import load_predictor
from mendel.values import Table
from mendel.values.directory_trees import tree_digest

X = np.random.default_rng(0).normal(size=(40, 3))
TABLE = Table({name: X[:, place] for place, name in enumerate("abc")})
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


@dataclass(frozen=True, kw_only=True)
class Sample:
    """
    A model of one flavour.

    Attributes:
        answers: What it predicts for X; ``probabilities`` likewise.
        needy: A model of the flavour that needs the module ABSENT.
        broken: One that cannot be loaded, at the latest when its files are damaged.
        told: Whether the artefact itself tells the classes.
        written_with: The versions that the artefact must tell.
    """

    model: Any
    answers: list[Any]
    probabilities: np.ndarray
    classes: tuple[Any, ...]
    needy: Any
    broken: Any
    told: bool
    written_with: dict[str, str]
    project: Project | None = None


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    directory = tmp_path_factory.mktemp("project")
    (directory / "models.py").write_text(CODE)
    kinds = {"threshold": "Threshold", "needy": "Needy", "broken": "Broken"}
    sections = [f"  {name}: {{predictor: {{module: models, class_name: {kind}}}}}" for name, kind in kinds.items()]
    (directory / "mlserver.yaml").write_text("\n".join(["classifiers:", *sections]))
    return load_project(directory)


@pytest.fixture(scope="module")
def samples(project, tmp_path_factory):
    """A model of every flavour of the table, by the flavour's name."""
    estimator = LogisticRegression().fit(X, np.where(X[:, 0] > 0, "yes", "no"))
    classes = ("no", "yes")
    p = 1 / (1 + np.exp(-X[:, 0]))
    return {
        "sklearn": Sample(
            model=estimator,
            answers=estimator.predict(X).tolist(),
            probabilities=estimator.predict_proba(X),
            classes=classes,
            needy=_estimator_of_an_absent_package(tmp_path_factory.mktemp("elsewhere")),
            broken=LogisticRegression(),
            told=False,
            written_with={"scikit-learn": version("scikit-learn")},
        ),
        "mendel": Sample(
            model=TrainedClassifier(name="threshold", classes=classes),
            answers=np.where(X[:, 0] > 0, "yes", "no").tolist(),
            probabilities=np.column_stack([1 - p, p]),
            classes=classes,
            needy=TrainedClassifier(name="needy"),
            broken=TrainedClassifier(name="broken"),
            told=True,
            written_with={},
            project=project,
        ),
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


@pytest.fixture(scope="module", params=[flavour.name for flavour in FLAVOURS])
def flavour(request):
    return next(flavour for flavour in FLAVOURS if flavour.name == request.param)


@pytest.fixture(scope="module")
def sample(flavour, samples):
    return samples[flavour.name]


@pytest.fixture(scope="module")
def artifact(flavour, sample, tmp_path_factory):
    """The artefact of the sample, written once."""
    directory = tmp_path_factory.mktemp(flavour.name) / "artifact"
    write_artifact(sample.model, directory, training=TABLE, project=sample.project)
    return directory


def test_every_flavour_has_a_sample(samples):
    """A flavour that is added to the table is tested here; names are unique."""
    names = [flavour.name for flavour in FLAVOURS]
    assert sorted(names) == sorted(samples)
    assert len(set(names)) == len(names)


def test_a_written_model_answers_as_before(sample, artifact):
    """Predictions, probabilities and classes are those of the model that was written."""
    predictor = load_predictor(artifact, digest=tree_digest(artifact), project=sample.project)
    outputs = predictor.predict(frame_of(TABLE, predictor.descriptor.contract))
    assert outputs.predictions == sample.answers
    np.testing.assert_allclose(outputs.matrix, sample.probabilities)
    assert predictor.descriptor.classes == sample.classes


def test_a_flavour_recognises_its_own_models_and_no_other(flavour, samples):
    """No object is of two flavours, and a class or a plain value is of none."""
    recognised = {name for name, sample in samples.items() if flavour.recognises(sample.model)}
    assert recognised == {flavour.name}
    assert flavour_for(samples[flavour.name].model) is flavour
    for nothing in (None, 3, "model", {}, LogisticRegression, TrainedClassifier):
        assert not flavour.recognises(nothing)
        with pytest.raises(Unsupported):
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
    assert described.versions.items() >= sample.written_with.items()


def test_a_missing_package_is_named(sample, monkeypatch, tmp_path):
    """What a model needs and is not installed is told by name, with what to do."""
    with monkeypatch.context() as installed:
        installed.setitem(sys.modules, ABSENT, _home(sample.needy))
        write_artifact(sample.needy, tmp_path / "needy", project=sample.project)
    with pytest.raises(ModelNotLoadable, match=ABSENT) as caught:
        load_predictor(tmp_path / "needy", digest=None, project=sample.project)
    assert "Install" in caught.value.remedy


def test_a_model_that_cannot_be_loaded_says_why(flavour, sample, tmp_path):
    """Damaged files and code that raises are a ModelNotLoadable with the cause, not an error of a library."""
    write_artifact(sample.broken, tmp_path / "broken", project=sample.project)
    for file in (tmp_path / "broken").iterdir():
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
