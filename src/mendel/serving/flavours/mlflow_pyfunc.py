"""The flavour ``python_function`` (pyfunc): models that MLflow loads and runs."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from mendel.projects import Project
from mendel.serving.flavours.environment_files import PYTHON_FUNCTION, python_function, write_environment
from mendel.serving.flavours.flavour import ArtifactDescription, Sections, translated_load_errors
from mendel.serving.flavours.native_models import predictor_of, require_empty, required
from mendel.serving.flavours.pickled_model import pickle_keys, pickled_model, require_same_python
from mendel.serving.mlmodel import Mlmodel
from mendel.serving.packed_code import is_packed
from mendel.serving.predictor import Predictor
from mendel.values.library_versions import installed_version

_FILE: Final = "python_model.pkl"
_EXTRA: Final = "pyfunc"


class PyfuncFlavour:
    """Writes objects of type ``mlflow.pyfunc.PythonModel``; uses MLflow to load any artefact that MLflow supports."""

    name = PYTHON_FUNCTION

    def recognises(self, model: object) -> bool:
        """Tell whether *model* is an object of a subclass of ``mlflow.pyfunc.PythonModel``."""
        return any(
            kind.__module__.startswith("mlflow.pyfunc") and kind.__name__ == "PythonModel"
            for kind in type(model).__mro__
        )

    def accepts(self, model: object) -> bool:
        return self.recognises(model)

    def answering(self, model: Any) -> Any:
        """Wrap *model* so that ``predict`` takes only the rows, and converts the answers as MLflow does."""
        return AnsweringPythonModel(model)

    def write(self, model: Any, directory: Path) -> Sections:
        require_empty(directory)
        pickled = pickled_model(model, packed=partial(is_packed, directory))
        (directory / _FILE).write_bytes(pickled.content)
        modules = [module for module in pickled.modules if module != "mlflow"]
        write_environment(directory, ("cloudpickle", "mlflow-skinny", "numpy", "pandas"), modules)
        keys = {"python_model": _FILE, "cloudpickle_version": installed_version("cloudpickle"), **pickle_keys(pickled)}
        return {self.name: python_function("mlflow.pyfunc.model", **keys)}

    def describe(self, mlmodel: Mlmodel) -> ArtifactDescription:
        return ArtifactDescription(flavour=self.name, signature=mlmodel.signature)

    def load(self, directory: Path, mlmodel: Mlmodel, project: Project | None) -> Predictor:
        del project
        require_same_python(mlmodel.flavors[self.name], mlmodel)
        pyfunc = required("mlflow.pyfunc", extra=_EXTRA)
        with translated_load_errors("Loading the model with MLflow"), _path_restored(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # MLflow asks the author of the model for type hints
            model = pyfunc.load_model(str(directory), suppress_warnings=True)
        names = () if mlmodel.signature is None else mlmodel.signature.names
        return predictor_of(AnsweringPyfunc(model, names), named=model)


class AnsweringPyfunc:
    """A model that MLflow has loaded; MLflow requires a data frame for a signature with columns, never an array."""

    def __init__(self, model: Any, names: tuple[str, ...]) -> None:
        self._model = model
        self._names = names

    def predict(self, rows: Any) -> Any:
        if self._names and not hasattr(rows, "columns"):
            rows = required("pandas", extra=_EXTRA).DataFrame(rows, columns=list(self._names))
        return _rows_of(self._model.predict(rows))


class AnsweringPythonModel:
    """Wraps a PythonModel that was not stored yet, and calls its ``predict`` as MLflow does."""

    def __init__(self, model: Any) -> None:
        context = required("mlflow.pyfunc", extra=_EXTRA).PythonModelContext(artifacts={}, model_config={})
        self._ask = partial(model.predict, context) if "context" in _parameters(model) else model.predict

    def predict(self, rows: Any) -> Any:
        return _rows_of(self._ask(rows))


def _parameters(model: Any) -> frozenset[str]:
    return frozenset(inspect.signature(model.predict).parameters)


def _rows_of(answers: Any) -> Any:
    """Give one value per row of a frame of one column, and one mapping per row of a wider frame."""
    columns = getattr(answers, "columns", None)
    if columns is None:
        return answers
    return answers.iloc[:, 0].to_numpy() if len(columns) == 1 else answers.to_dict(orient="records")


@contextmanager
def _path_restored() -> Iterator[None]:
    """Restore ``sys.path`` at the end of the ``with`` block, because MLflow adds packed code and does not remove it."""
    before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = before
