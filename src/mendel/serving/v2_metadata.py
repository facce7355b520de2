"""Answers as v2 tensors, and a version's metadata in v2's words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from mendel.errors import InvalidRequest
from mendel.serving.entities import InferenceAnswer, Tensor
from mendel.serving.loaded_version import LoadedVersion
from mendel.serving.tensors import datatype_of
from mendel.values import ColumnType

PREDICT, PROBA = "predict", "predict_proba"
_DATATYPES = {
    ColumnType.BOOLEAN: "BOOL",
    ColumnType.INTEGER: "INT32",
    ColumnType.LONG: "INT64",
    ColumnType.FLOAT: "FP32",
    ColumnType.DOUBLE: "FP64",
    ColumnType.STRING: "BYTES",
    ColumnType.DATETIME: "BYTES",
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor's name, datatype and shape; -1 is any number of rows."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def output_tensors(answer: InferenceAnswer, wanted: Sequence[str] = ()) -> tuple[Tensor, ...]:
    """
    The answer's outputs: ``predict``, and ``predict_proba`` where there are probabilities.

    Args:
        wanted: Only these, in this order.

    Raises:
        InvalidRequest: One of *wanted* is not there.
    """
    tensors = {PREDICT: _predictions(answer)}
    if answer.probabilities is not None:
        rows = answer.probabilities
        flat = [value for row in rows for value in row]
        tensors[PROBA] = Tensor(name=PROBA, datatype="FP64", shape=(len(rows), len(rows[0])), values=flat)
    for name in wanted:
        if name not in tensors:
            raise InvalidRequest(f"The model has no output {name!r}.", remedy=f"Choose one of {', '.join(tensors)}.")
    return tuple(tensors[name] for name in wanted or tensors)


def answer_parameters(answer: InferenceAnswer) -> dict[str, Any]:
    """What an answer says of itself beside its outputs: ids, generation, and ``logged`` or ``fallback`` if unusual."""
    remarks: dict[str, Any] = {"prediction_ids": answer.prediction_ids, "generation": answer.metadata.generation}
    if not answer.logged:
        remarks["logged"] = False
    if answer.fallback:
        remarks["fallback"] = True
    return remarks


def input_specs(version: LoadedVersion) -> tuple[TensorSpec, ...]:
    """The inputs a version takes, one tensor per feature; empty where it does not say."""
    signature = version.served.signature
    columns = () if signature is None else signature.inputs
    return tuple(TensorSpec(column.name, _DATATYPES[column.type], (-1,)) for column in columns)


def output_specs(version: LoadedVersion) -> tuple[TensorSpec, ...]:
    """The outputs it gives; what ``predict`` holds is known only from answers and is called FP64 where it may be."""
    classes = version.artifact.descriptor.classes
    text = classes is not None and any(isinstance(name, str) for name in classes)
    whole = classes is not None and all(isinstance(name, int) for name in classes)
    predictions = TensorSpec(PREDICT, "BYTES" if text else "INT64" if whole else "FP64", (-1,))
    if not version.artifact.descriptor.proba:
        return (predictions,)
    return (predictions, TensorSpec(PROBA, "FP64", (-1, -1 if classes is None else len(classes))))


def _predictions(answer: InferenceAnswer) -> Tensor:
    values = answer.predictions
    if values and all(isinstance(value, list) and len(value) == len(values[0]) for value in values):
        flat = [inner for row in values for inner in row]
        if not any(isinstance(inner, list | dict) for inner in flat):
            shape = (len(values), len(values[0]))
            return Tensor(name=PREDICT, datatype=datatype_of(flat), shape=shape, values=_carried(flat))
    return Tensor(name=PREDICT, datatype=datatype_of(values), shape=(len(values),), values=_carried(values))


def _carried(values: list[object]) -> list[object]:
    """As the datatype carries them: what is no number is text, and what is no text is JSON."""
    if datatype_of(values) != "BYTES":
        return values
    return [value if isinstance(value, str) else msgspec.json.encode(value).decode() for value in values]
