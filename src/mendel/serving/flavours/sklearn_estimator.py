"""The flavour ``sklearn``: scikit-learn estimators and objects with the same methods, stored in one file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from mendel.errors import InvalidValue, ModelNotLoadable
from mendel.projects import Project
from mendel.serving.flavours.environment_files import PYTHON_FUNCTION, python_function, write_environment
from mendel.serving.flavours.flavour import ArtifactDescription, Sections, translated_load_errors
from mendel.serving.flavours.pickled_model import pickled_model, unpickled_model
from mendel.serving.mlmodel import Mlmodel
from mendel.serving.packed_code import BY_VALUE, CODE, is_packed
from mendel.serving.predictor import Predictor, PredictorDescriptor

_FILE: Final = "model.pkl"
_NEEDED: Final = ("cloudpickle", "numpy", "scikit-learn", "scipy")


class SklearnFlavour:
    """
    Writes estimators with cloudpickle, for MLflow's loader too; reads cloudpickle, pickle, skops and joblib files.

    Unpickling can execute code of the file, so load only artefacts whose digest was checked.
    """

    name = "sklearn"

    def recognises(self, model: object) -> bool:
        """Tell whether *model* is an object (not a class) with the methods fit, predict and get_params."""
        methods = ("fit", "predict", "get_params")
        return not isinstance(model, type) and all(callable(getattr(model, method, None)) for method in methods)

    def write(self, model: Any, directory: Path) -> Sections:
        """Write one pickle and MLflow's environment files, and give ``MLmodel`` sections that MLflow can load too."""
        if any(path.name != CODE for path in directory.iterdir()):
            raise InvalidValue(f"Directory {directory} is not empty.", remedy="Give an empty directory.")
        pickled = pickled_model(model, packed=partial(is_packed, directory))
        (directory / _FILE).write_bytes(pickled.content)
        write_environment(directory, _NEEDED, pickled.modules)
        estimator = {
            "pickled_model": _FILE,
            "serialization_format": "cloudpickle",
            "sklearn_version": version("scikit-learn"),
            CODE: None,
            **({BY_VALUE: list(pickled.by_value)} if pickled.by_value else {}),
        }
        loader = python_function("mlflow.sklearn", model_path=_FILE, predict_fn="predict")
        return {self.name: estimator, PYTHON_FUNCTION: loader}

    def describe(self, mlmodel: Mlmodel) -> ArtifactDescription:
        """Give the signature and the versions of scikit-learn and Python; only the loaded model knows its classes."""
        written = {
            "scikit-learn": mlmodel.flavors[self.name].get("sklearn_version"),
            "python": mlmodel.flavors.get(PYTHON_FUNCTION, {}).get("python_version"),
        }
        return ArtifactDescription(
            flavour=self.name,
            signature=mlmodel.signature,
            versions={name: str(number) for name, number in written.items() if number is not None},
        )

    def load(self, directory: Path, mlmodel: Mlmodel, project: Project | None) -> Predictor:
        """
        Unpickle the estimator.

        An estimator that was fitted on a DataFrame gets a DataFrame if it selects columns by name or has columns that
        are not numeric; every other estimator gets an array.
        """
        del project
        with translated_load_errors("Unpickling the model"):
            model = _unpickle(directory, mlmodel)
        if not callable(getattr(model, "predict", None)):
            raise ModelNotLoadable(
                f"The artefact holds an object of type {type(model).__name__}, which has no method predict."
            )
        descriptor = PredictorDescriptor(
            class_name=type(model).__name__,
            module=type(model).__module__,
            classes=_classes(model),
            dataframe=None,
            proba=callable(getattr(model, "predict_proba", None)),
        )
        return Predictor(model, descriptor)


def _unpickle(directory: Path, mlmodel: Mlmodel) -> Any:
    section: Mapping[str, Any] = mlmodel.flavors[SklearnFlavour.name]
    path = (directory / str(section.get("pickled_model", "model.pkl"))).resolve()
    if not path.is_relative_to(directory.resolve()):
        raise ModelNotLoadable("The MLmodel of the artefact names a model file outside the artefact's directory.")
    match section.get("serialization_format", "cloudpickle"):
        case "joblib":
            import joblib  # noqa: PLC0415 - only where a model is loaded

            return joblib.load(path)
        case "cloudpickle" | "pickle":
            written_by = mlmodel.flavors.get(PYTHON_FUNCTION, {}).get("python_version")
            return unpickled_model(path, section, python_version=None if written_by is None else str(written_by))
        case "skops":
            import skops.io  # noqa: PLC0415 - only where a model is loaded

            return skops.io.load(path)
        case other:
            raise ModelNotLoadable(
                f"The model is serialised as {other!r}; servers load joblib, pickle, cloudpickle and skops."
            )


def _classes(model: Any) -> tuple[Any, ...] | None:
    """Give the classes; for several outputs one tuple of classes each; None for a model without classes."""
    classes = getattr(model, "classes_", None)
    if isinstance(classes, list) and classes and all(isinstance(inner, np.ndarray) for inner in classes):
        return tuple(tuple(inner.tolist()) for inner in classes)
    return None if classes is None or getattr(classes, "ndim", 0) != 1 else tuple(classes.tolist())
