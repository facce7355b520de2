"""The flavour ``pytorch``: TorchScript modules and exported programs, which need none of the caller's code."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from mendel.projects import Project
from mendel.serving.flavours.environment_files import PYTHON_FUNCTION, python_function, write_environment
from mendel.serving.flavours.flavour import ArtifactDescription, Sections, translated_load_errors
from mendel.serving.flavours.native_models import file_of, predictor_of, require_empty, required
from mendel.serving.mlmodel import Mlmodel
from mendel.serving.predictor import Predictor

_DATA: Final = "torch"
"""Not ``data``, as MLflow calls it: that directory of an artefact holds training rows, and servers do not get it."""

_SCRIPT: Final = "model.pth"
_EXPORTED: Final = "model.pt2"
_PICKLE_MODULE: Final = "pickle_module_info.txt"
_SCRIPT_CLASSES: Final = frozenset({"ScriptModule", "RecursiveScriptModule"})


class TorchFlavour:
    """Writes and reads TorchScript and exported programs in the directory that MLflow's ``pytorch`` flavour reads."""

    name = "pytorch"

    def recognises(self, model: object) -> bool:
        """Tell whether *model* is a TorchScript module or an exported program; a plain ``nn.Module`` needs its code."""
        return _is_script(model) or _is_exported(model)

    def accepts(self, model: object) -> bool:
        return self.recognises(model)

    def answering(self, model: Any) -> Any:
        """Give an object whose ``predict`` calls *model* with one float32 tensor of all rows."""
        return AnsweringModule(model.module() if _is_exported(model) else model)

    def write(self, model: Any, directory: Path) -> Sections:
        require_empty(directory)
        torch = required("torch", extra=self.name)
        target = directory / _DATA
        target.mkdir()
        if _is_exported(model):
            torch.export.save(model, target / _EXPORTED)
        else:
            with _deprecations_ignored():
                torch.jit.save(model, str(target / _SCRIPT))
            (target / _PICKLE_MODULE).write_text("pickle", encoding="utf-8")
        write_environment(directory, ("numpy", "torch"))
        section = {"model_data": _DATA, "pytorch_version": str(torch.__version__)}
        loader = python_function("mlflow.pytorch", data=_DATA, model_config={"device": None})
        return {self.name: section, PYTHON_FUNCTION: loader}

    def describe(self, mlmodel: Mlmodel) -> ArtifactDescription:
        return ArtifactDescription(flavour=self.name, signature=mlmodel.signature)

    def load(self, directory: Path, mlmodel: Mlmodel, project: Project | None) -> Predictor:
        del project
        data = file_of(directory, mlmodel.flavors[self.name], "model_data", _DATA)
        torch = required("torch", extra=self.name)
        with translated_load_errors("Loading the model"), _deprecations_ignored():
            if (data / _EXPORTED).is_file():
                module = torch.export.load(data / _EXPORTED).module()
            else:
                module = torch.jit.load(str(data / _SCRIPT), map_location="cpu").eval()
        return predictor_of(AnsweringModule(module), named=module)


class AnsweringModule:
    """Wraps a module so that ``predict`` accepts a data frame or an array of shape (rows, features)."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def predict(self, rows: Any) -> Any:
        torch = required("torch", extra="pytorch")
        matrix = rows.to_numpy(dtype=np.float32) if hasattr(rows, "columns") else np.asarray(rows, dtype=np.float32)
        with torch.no_grad():
            answers = self._module(torch.from_numpy(np.ascontiguousarray(matrix))).numpy()
        return answers[:, 0] if answers.ndim == 2 and answers.shape[1] == 1 else answers  # noqa: PLR2004 - rows, answers


@contextmanager
def _deprecations_ignored() -> Iterator[None]:
    """Ignore PyTorch's warnings that TorchScript is deprecated; PyTorch still reads and writes TorchScript."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def _is_script(model: object) -> bool:
    return any(
        kind.__module__.startswith("torch.jit") and kind.__name__ in _SCRIPT_CLASSES for kind in type(model).__mro__
    )


def _is_exported(model: object) -> bool:
    return type(model).__module__.startswith("torch.export") and type(model).__name__ == "ExportedProgram"
