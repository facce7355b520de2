"""The flavour ``xgboost``: boosters and scikit-learn wrappers of XGBoost, stored in XGBoost's own format."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

from mendel.errors import ModelNotLoadable
from mendel.projects import Project
from mendel.serving.flavours.environment_files import PYTHON_FUNCTION, python_function, write_environment
from mendel.serving.flavours.flavour import ArtifactDescription, Sections, translated_load_errors
from mendel.serving.flavours.native_models import file_of, is_of, predictor_of, require_empty, required
from mendel.serving.mlmodel import Mlmodel
from mendel.serving.predictor import Predictor

_FILE: Final = "model.ubj"
_BOOSTER: Final = "xgboost.core.Booster"
_WRAPPERS: Final = ("XGBClassifier", "XGBRegressor", "XGBRanker", "XGBRFClassifier", "XGBRFRegressor")


class XgboostFlavour:
    """Writes and reads XGBoost's binary JSON, as MLflow's ``xgboost`` flavour does."""

    name = "xgboost"

    def recognises(self, model: object) -> bool:
        """
        Tell whether *model* is a Booster, or a scikit-learn wrapper that XGBoost's format can store completely.

        XGBoost's format loses the parameter ``missing`` and an objective that is a function; the flavour ``sklearn``
        pickles such wrappers.
        """
        return is_of(model, "xgboost", "Booster") or (is_of(model, "xgboost", *_WRAPPERS) and _is_stored_whole(model))

    def accepts(self, model: object) -> bool:
        return self.recognises(model)

    def answering(self, model: Any) -> Any:
        """Give a scikit-learn wrapper unchanged; wrap a Booster so that ``predict`` accepts data frames and arrays."""
        return AnsweringBooster(model) if is_of(model, "xgboost", "Booster") else model

    def write(self, model: Any, directory: Path) -> Sections:
        require_empty(directory)
        model.save_model(directory / _FILE)
        write_environment(directory, ("numpy", "scikit-learn", "scipy"), ("xgboost",))
        section = {
            "data": _FILE,
            "model_class": _BOOSTER
            if is_of(model, "xgboost", "Booster")
            else f"xgboost.sklearn.{type(model).__name__}",
            "model_format": "ubj",
            "xgb_version": required("xgboost", extra=self.name).__version__,
        }
        return {self.name: section, PYTHON_FUNCTION: python_function("mlflow.xgboost", data=_FILE)}

    def describe(self, mlmodel: Mlmodel) -> ArtifactDescription:
        return ArtifactDescription(flavour=self.name, signature=mlmodel.signature)

    def load(self, directory: Path, mlmodel: Mlmodel, project: Project | None) -> Predictor:
        del project
        section = mlmodel.flavors[self.name]
        path = file_of(directory, section, "data", _FILE)
        kind = str(section.get("model_class", _BOOSTER)).rpartition(".")[2]
        xgboost = required("xgboost", extra=self.name)
        if kind not in {"Booster", *_WRAPPERS}:
            raise ModelNotLoadable(
                f"The artefact contains a {kind}; servers can load {', '.join(('Booster', *_WRAPPERS))} of xgboost."
            )
        with translated_load_errors("Loading the model"):
            model = getattr(xgboost, kind)()
            model.load_model(path)
        return predictor_of(self.answering(model), named=model)


class AnsweringBooster:
    """Wraps a Booster, which needs a DMatrix, so that ``predict`` accepts data frames and arrays."""

    def __init__(self, booster: Any) -> None:
        self._booster = booster
        if booster.feature_names is not None:
            self.feature_names_in_ = list(booster.feature_names)
        self.n_features_in_ = booster.num_features()

    def predict(self, rows: Any) -> Any:
        xgboost = required("xgboost", extra="xgboost")
        if hasattr(rows, "columns"):
            return self._booster.predict(xgboost.DMatrix(rows, enable_categorical=True))
        names, types = self._booster.feature_names, self._booster.feature_types
        return self._booster.predict(xgboost.DMatrix(rows, feature_names=names, feature_types=types))


def _is_stored_whole(model: Any) -> bool:
    missing = getattr(model, "missing", math.nan)
    return isinstance(missing, float) and math.isnan(missing) and not callable(getattr(model, "objective", None))
