"""The flavour ``sklearn``: scikit-learn estimators and objects with the same methods, stored in one file."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from mendel.errors import ModelNotLoadable
from mendel.projects import Project
from mendel.serving.flavours.environment_files import PYTHON_FUNCTION, python_function, write_environment
from mendel.serving.flavours.flavour import ArtifactDescription, Flavour, Sections, translated_load_errors
from mendel.serving.flavours.native_models import file_of, predictor_of, require_empty
from mendel.serving.flavours.pickled_model import pickle_keys, pickled_model, require_same_python
from mendel.serving.mlmodel import Mlmodel
from mendel.serving.model_program import unpickled
from mendel.serving.packed_code import CODE, is_packed
from mendel.serving.predictor import Predictor

_FILE: Final = "model.pkl"
_NEEDED: Final = ("cloudpickle", "numpy", "scikit-learn", "scipy")


class SklearnFlavour:
    """
    Writes estimators with cloudpickle, for MLflow's loader too; reads cloudpickle, pickle, skops and joblib files.

    Unpickling can execute code of the file, so load only artefacts whose digest was checked.
    """

    name = "sklearn"

    def __init__(self, *, besides: tuple[Flavour, ...] = ()) -> None:
        self._besides = besides

    def recognises(self, model: object) -> bool:
        """Tell whether :meth:`accepts` holds and none of the flavours *besides* recognises the model."""
        return self.accepts(model) and not any(flavour.recognises(model) for flavour in self._besides)

    def answering(self, model: Any) -> Any:
        """Give *model* itself."""
        return model

    def accepts(self, model: object) -> bool:
        """Tell whether *model* is an object (not a class) with the methods fit, predict and get_params."""
        methods = ("fit", "predict", "get_params")
        return not isinstance(model, type) and all(callable(getattr(model, method, None)) for method in methods)

    def write(self, model: Any, directory: Path) -> Sections:
        """Write one pickle and MLflow's environment files, and give ``MLmodel`` sections that MLflow can load too."""
        require_empty(directory)
        pickled = pickled_model(model, packed=partial(is_packed, directory))
        (directory / _FILE).write_bytes(pickled.content)
        write_environment(directory, _NEEDED, pickled.modules)
        estimator = {
            "pickled_model": _FILE,
            "serialization_format": "cloudpickle",
            "sklearn_version": version("scikit-learn"),
            CODE: None,
            **pickle_keys(pickled),
        }
        loader = python_function("mlflow.sklearn", model_path=_FILE, predict_fn="predict")
        return {self.name: estimator, PYTHON_FUNCTION: loader}

    def describe(self, mlmodel: Mlmodel) -> ArtifactDescription:
        """Give the signature; only the loaded model knows its classes."""
        return ArtifactDescription(flavour=self.name, signature=mlmodel.signature)

    def load(self, directory: Path, mlmodel: Mlmodel, project: Project | None) -> Predictor:
        del project
        with translated_load_errors("Unpickling the model"), warnings.catch_warnings():
            # The descriptor names both versions. Importing the warning's class would import scikit-learn, which takes
            # longer than a second and which not every estimator needs.
            warnings.filterwarnings("ignore", message="Trying to unpickle estimator")
            model = _unpickle(directory, mlmodel)
        if not callable(getattr(model, "predict", None)):
            raise ModelNotLoadable(
                f"The artefact holds an object of type {type(model).__name__}, which has no method predict."
            )
        return predictor_of(model)


def _unpickle(directory: Path, mlmodel: Mlmodel) -> Any:
    path, form = pickle_file(directory, mlmodel)
    require_same_python(mlmodel.flavors[SklearnFlavour.name], mlmodel)
    return unpickled(str(path), form)


def pickle_file(directory: Path, mlmodel: Mlmodel) -> tuple[Path, str]:
    """
    Give the file of a scikit-learn artefact that contains the model, and the name of its format.

    Raises:
        ModelNotLoadable: The file is outside *directory*.
    """
    section: Mapping[str, Any] = mlmodel.flavors[SklearnFlavour.name]
    form = str(section.get("serialization_format", "cloudpickle"))
    return file_of(directory, section, "pickled_model", _FILE), form
