"""The flavour ``catboost``: CatBoost models in CatBoost's own format."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np

from mendel.errors import ModelNotLoadable
from mendel.projects import Project
from mendel.serving.flavours.environment_files import PYTHON_FUNCTION, python_function, write_environment
from mendel.serving.flavours.flavour import ArtifactDescription, Sections, translated_load_errors
from mendel.serving.flavours.native_models import file_of, is_of, predictor_of, require_empty, required
from mendel.serving.mlmodel import Mlmodel
from mendel.serving.predictor import Predictor

_FILE: Final = "model.cb"
_KINDS: Final = ("CatBoost", "CatBoostClassifier", "CatBoostRanker", "CatBoostRegressor")


class CatboostFlavour:
    """Writes and reads CatBoost's binary format, as MLflow's ``catboost`` flavour does."""

    name = "catboost"

    def recognises(self, model: object) -> bool:
        """Tell whether *model* is an object of a class of CatBoost."""
        return is_of(model, "catboost", *_KINDS)

    def accepts(self, model: object) -> bool:
        return self.recognises(model)

    def answering(self, model: Any) -> Any:
        """Wrap *model* so that it answers one class per row; CatBoost itself may answer a list with one class."""
        return AnsweringClassifier(model) if is_of(model, "catboost", "CatBoostClassifier") else model

    def write(self, model: Any, directory: Path) -> Sections:
        require_empty(directory)
        model.save_model(str(directory / _FILE), format="cbm")
        write_environment(directory, ("catboost", "numpy", "pandas", "scipy"))
        section = {
            "data": _FILE,
            "model_type": type(model).__name__,
            "save_format": "cbm",
            "catboost_version": required("catboost", extra=self.name).__version__,
        }
        return {self.name: section, PYTHON_FUNCTION: python_function("mlflow.catboost", data=_FILE)}

    def describe(self, mlmodel: Mlmodel) -> ArtifactDescription:
        return ArtifactDescription(flavour=self.name, signature=mlmodel.signature)

    def load(self, directory: Path, mlmodel: Mlmodel, project: Project | None) -> Predictor:
        del project
        section = mlmodel.flavors[self.name]
        path = file_of(directory, section, "data", _FILE)
        kind = str(section.get("model_type", "CatBoost"))
        catboost = required("catboost", extra=self.name)
        if kind not in _KINDS:
            raise ModelNotLoadable(f"The artefact contains a {kind}; servers can load {', '.join(_KINDS)} of catboost.")
        with translated_load_errors("Loading the model"):
            model = getattr(catboost, kind)()
            model.load_model(str(path), format=str(section.get("save_format", "cbm")))
        return predictor_of(self.answering(model), named=model)


class AnsweringClassifier:
    """A CatBoostClassifier that answers one class per row for any number of classes."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.feature_names_ = model.feature_names_
        self.n_features_in_ = len(model.feature_names_)
        self.classes_ = np.asarray(model.classes_)

    def predict(self, rows: Any) -> Any:
        answers = np.asarray(self._model.predict(rows))
        return answers[:, 0] if answers.ndim == 2 and answers.shape[1] == 1 else answers  # noqa: PLR2004 - rows, classes

    def predict_proba(self, rows: Any) -> Any:
        return self._model.predict_proba(rows)
