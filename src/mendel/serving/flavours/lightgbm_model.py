"""The flavour ``lightgbm``: boosters in LightGBM's text format, scikit-learn wrappers of LightGBM as a pickle."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

from mendel.projects import Project
from mendel.serving.flavours.environment_files import PYTHON_FUNCTION, python_function, write_environment
from mendel.serving.flavours.flavour import ArtifactDescription, Sections, translated_load_errors
from mendel.serving.flavours.native_models import file_of, is_of, predictor_of, require_empty, required
from mendel.serving.flavours.pickled_model import pickle_keys, pickled_model, unpickled_model
from mendel.serving.mlmodel import Mlmodel
from mendel.serving.packed_code import is_packed
from mendel.serving.predictor import Predictor

_BOOSTER_FILE: Final = "model.lgb"
_PICKLE: Final = "model.pkl"
_BOOSTER: Final = "lightgbm.basic.Booster"
_WRAPPERS: Final = ("LGBMClassifier", "LGBMModel", "LGBMRanker", "LGBMRegressor")


class LightgbmFlavour:
    """Writes and reads what MLflow's ``lightgbm`` flavour does."""

    name = "lightgbm"

    def recognises(self, model: object) -> bool:
        """Tell whether *model* is a Booster or a scikit-learn wrapper of LightGBM."""
        return is_of(model, "lightgbm", "Booster", *_WRAPPERS)

    def accepts(self, model: object) -> bool:
        return self.recognises(model)

    def answering(self, model: Any) -> Any:
        """Give a scikit-learn wrapper unchanged; wrap a Booster to add the column names that it was fitted on."""
        return AnsweringBooster(model) if is_of(model, "lightgbm", "Booster") else model

    def write(self, model: Any, directory: Path) -> Sections:
        require_empty(directory)
        section: dict[str, Any] = {"lgb_version": required("lightgbm", extra=self.name).__version__}
        if is_of(model, "lightgbm", "Booster"):
            model.save_model(directory / _BOOSTER_FILE)
            section |= {"data": _BOOSTER_FILE, "model_class": _BOOSTER}
        else:
            pickled = pickled_model(model, packed=partial(is_packed, directory))
            (directory / _PICKLE).write_bytes(pickled.content)
            section |= {"data": _PICKLE, "model_class": f"lightgbm.sklearn.{type(model).__name__}"}
            section |= {"serialization_format": "cloudpickle", **pickle_keys(pickled)}
        write_environment(directory, ("cloudpickle", "lightgbm", "numpy", "scikit-learn", "scipy"))
        return {self.name: section, PYTHON_FUNCTION: python_function("mlflow.lightgbm", data=section["data"])}

    def describe(self, mlmodel: Mlmodel) -> ArtifactDescription:
        return ArtifactDescription(flavour=self.name, signature=mlmodel.signature)

    def load(self, directory: Path, mlmodel: Mlmodel, project: Project | None) -> Predictor:
        del project
        section = mlmodel.flavors[self.name]
        is_booster = section.get("model_class", _BOOSTER) == _BOOSTER
        path = file_of(directory, section, "data", _BOOSTER_FILE if is_booster else _PICKLE)
        lightgbm = required("lightgbm", extra=self.name)
        with translated_load_errors("Loading the model"):
            model = lightgbm.Booster(model_file=path) if is_booster else unpickled_model(path, section, mlmodel)
        return predictor_of(self.answering(model), named=model)


class AnsweringBooster:
    """Wraps a Booster to add the attribute with the column names that it was fitted on."""

    def __init__(self, booster: Any) -> None:
        self._booster = booster
        self.feature_names_in_ = booster.feature_name()
        self.n_features_in_ = booster.num_feature()

    def predict(self, rows: Any) -> Any:
        return self._booster.predict(rows)
