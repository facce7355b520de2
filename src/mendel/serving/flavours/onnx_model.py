"""The flavour ``onnx``: ONNX graphs over rows of features, run by onnxruntime on the processor."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mendel.errors import InvalidInput, ModelNotLoadable
from mendel.projects import Project
from mendel.serving.flavours.environment_files import PYTHON_FUNCTION, python_function, write_environment
from mendel.serving.flavours.flavour import ArtifactDescription, Sections, translated_load_errors
from mendel.serving.flavours.native_models import file_of, is_of, predictor_of, require_empty, required
from mendel.serving.mlmodel import Mlmodel
from mendel.serving.predictor import Predictor

_FILE: Final = "model.onnx"
_CLASSES: Final = "mendel_classes"
"""The key of the section that lists the classes of a classifier, in the order of its probabilities."""

_PROVIDERS: Final = ("CPUExecutionProvider",)
_TYPES: Final = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
    "tensor(string)": np.str_,
}
_CLASS_ATTRIBUTES: Final = ("classlabels_int64s", "classlabels_ints", "classlabels_strings", "classlabels_string")


class OnnxFlavour:
    """Writes and reads one ``.onnx`` file, as MLflow's ``onnx`` flavour does."""

    name = "onnx"

    def recognises(self, model: object) -> bool:
        """Tell whether *model* is an ``onnx.ModelProto``."""
        return is_of(model, "onnx", "ModelProto")

    def accepts(self, model: object) -> bool:
        return self.recognises(model)

    def answering(self, model: Any) -> Any:
        """Give an object that runs *model* on frames and arrays."""
        return AnsweringSession(model.SerializeToString(deterministic=True), _classes_in(model))

    def write(self, model: Any, directory: Path) -> Sections:
        require_empty(directory)
        if any(tensor.external_data for tensor in model.graph.initializer):
            raise InvalidInput(
                "The ONNX model stores its weights in separate files.",
                remedy="Load the model with load_external_data=True, and register it again.",
            )
        (directory / _FILE).write_bytes(model.SerializeToString(deterministic=True))
        write_environment(directory, ("numpy", "onnx", "onnxruntime"))
        section: dict[str, Any] = {
            "data": _FILE,
            "onnx_version": required("onnx", extra=self.name).__version__,
            "providers": list(_PROVIDERS),
            "onnx_session_options": None,
        }
        if (classes := _classes_in(model)) is not None:
            section[_CLASSES] = list(classes)
        return {self.name: section, PYTHON_FUNCTION: python_function("mlflow.onnx", data=_FILE)}

    def describe(self, mlmodel: Mlmodel) -> ArtifactDescription:
        """Give the signature and the classes; the graph states its own operator versions, so no package is named."""
        classes = mlmodel.flavors[self.name].get(_CLASSES)
        return ArtifactDescription(
            flavour=self.name, signature=mlmodel.signature, classes=tuple(classes) if classes else None
        )

    def load(self, directory: Path, mlmodel: Mlmodel, project: Project | None) -> Predictor:
        del project
        path = file_of(directory, mlmodel.flavors[self.name], "data", _FILE)
        required("onnxruntime", extra=self.name)
        with translated_load_errors("Loading the model"):
            return predictor_of(AnsweringSession(str(path), self.describe(mlmodel).classes))


class AnsweringSession:
    """
    An ONNX graph that takes rows of features: one tensor of shape (rows, features), or one input per feature.

    The first output is the answer. If the answer is a label per row, the second output gives the probabilities: a
    tensor with one number per class, or one mapping per row.
    """

    def __init__(self, source: str | bytes, classes: tuple[Any, ...] | None) -> None:
        runtime = required("onnxruntime", extra="onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = runtime.InferenceSession(source, sess_options=options, providers=list(_PROVIDERS))
        self._inputs = self._session.get_inputs()
        self._outputs = [output.name for output in self._session.get_outputs()]
        if unknown := next((given for given in self._inputs if given.type not in _TYPES), None):
            raise ModelNotLoadable(
                f"The ONNX input {unknown.name!r} has the type {unknown.type}, which is not supported."
            )
        if len(self._inputs) > 1:
            self.feature_names_in_ = [given.name for given in self._inputs]
        if classes is not None:
            self.classes_ = np.array(classes)
        if len(self._outputs) > 1 and _is_of_labels(self._session.get_outputs()):
            self.predict_proba = self._probabilities

    def predict(self, rows: Any) -> NDArray[Any]:
        answers = np.asarray(self._run(rows, self._outputs[:1])[0])
        return answers[:, 0] if answers.ndim == 2 and answers.shape[1] == 1 else answers  # noqa: PLR2004 - rows, answers

    def _probabilities(self, rows: Any) -> NDArray[Any]:
        (answers,) = self._run(rows, self._outputs[1:2])
        if isinstance(answers, list):
            order = sorted(answers[0]) if self.classes_ is None else self.classes_
            return np.array([[row[key] for key in order] for row in answers])
        return np.asarray(answers)

    def _run(self, rows: Any, outputs: Sequence[str]) -> list[Any]:
        result: list[Any] = self._session.run(list(outputs), dict(self._feeds(rows)))
        return result

    def _feeds(self, rows: Any) -> Iterator[tuple[str, NDArray[Any]]]:
        if len(self._inputs) == 1:
            (given,) = self._inputs
            yield given.name, _cast(rows.to_numpy() if hasattr(rows, "columns") else rows, given.type)
            return
        for place, given in enumerate(self._inputs):
            column = rows[given.name].to_numpy() if hasattr(rows, "columns") else np.asarray(rows)[:, place]
            values = _cast(column, given.type)
            yield given.name, values.reshape(-1, 1) if len(given.shape) > 1 else values


def _cast(values: Any, kind: str) -> NDArray[Any]:
    array = np.asarray(values)
    return array.astype(object) if _TYPES[kind] is np.str_ else np.ascontiguousarray(array, dtype=_TYPES[kind])


def _is_of_labels(outputs: Sequence[Any]) -> bool:
    label, second = outputs[0], outputs[1]
    return label.type in {"tensor(int64)", "tensor(string)"} and (
        second.type.startswith("seq(map") or second.type in {"tensor(float)", "tensor(double)"}
    )


def _classes_in(model: Any) -> tuple[Any, ...] | None:
    """Give the classes that a classifier of *model*'s graph lists, in the order of the probabilities."""
    attributes: Mapping[str, Any] = {
        attribute.name: attribute for node in model.graph.node for attribute in node.attribute
    }
    for name in _CLASS_ATTRIBUTES:
        if (attribute := attributes.get(name)) is not None:
            texts = tuple(value.decode() for value in attribute.strings)
            return texts or tuple(attribute.ints) or None
    return None
