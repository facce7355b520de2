"""Convert answers and model metadata to the tensors of the Open Inference Protocol v2."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from mendel.errors import InvalidRequest
from mendel.serving.entities import InferenceAnswer, Tensor
from mendel.serving.input_contract import Content, ContractColumn
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
    """The name, datatype and shape of a tensor in model metadata; -1 in the shape means any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


def output_tensors(answer: InferenceAnswer, wanted: Sequence[str] = ()) -> tuple[Tensor, ...]:
    """
    Convert an answer to the output tensors ``predict`` and, if the model has probabilities, ``predict_proba``.

    Args:
        wanted: The names of the outputs to give, in this order; empty gives all outputs.

    Raises:
        InvalidRequest: The answer has no output with a name in *wanted*.
    """
    if not wanted:
        predicted = _column(answer.predictions)
        return (predicted,) if answer.probabilities is None else (predicted, _probabilities(answer.probabilities))
    tensors = {PREDICT: _column(answer.predictions)}
    if answer.probabilities is not None:
        tensors[PROBA] = _probabilities(answer.probabilities)
    for name in wanted:
        if name not in tensors:
            raise InvalidRequest(f"The model has no output {name!r}.", remedy=f"Choose one of: {', '.join(tensors)}.")
    return tuple(tensors[name] for name in wanted)


def answer_parameters(answer: InferenceAnswer) -> dict[str, Any]:
    """
    Give the ``parameters`` of a v2 response: prediction ids and deployment generation.

    ``logged: false`` is added if the rows were not logged, ``fallback: true`` if the fallback version answered.
    """
    remarks: dict[str, Any] = {"prediction_ids": answer.prediction_ids, "generation": answer.metadata.generation}
    if not answer.logged:
        remarks["logged"] = False
    if answer.fallback:
        remarks["fallback"] = True
    return remarks


def input_specs(version: LoadedVersion) -> tuple[TensorSpec, ...]:
    """Give the input tensors of a version, one per feature; empty when the version has no signature."""
    contract = version.artifact.descriptor.contract
    if contract is not None and contract.columns:
        return tuple(TensorSpec(column.name, _datatype(column), (-1,)) for column in contract.columns)
    signature = version.served.signature
    columns = () if signature is None else signature.inputs
    return tuple(TensorSpec(column.name, _DATATYPES[column.type], (-1,)) for column in columns)


def _datatype(column: ContractColumn) -> str:
    """Give the v2 datatype of *column*; whole numbers get the datatype of the column's integer type."""
    return column.whole_dtype.upper() if column.content is Content.INTEGER else _DATATYPES[column.spec.type]


def output_specs(version: LoadedVersion) -> tuple[TensorSpec, ...]:
    """
    Give the outputs of a version, with the datatypes and shapes of its answer to the input example.

    Without an input example they are those that the descriptor knows; else the datatype of ``predict`` follows from the
    classes, and a model without classes is FP64.
    """
    answered, descriptor = version.artifact.answered, version.artifact.descriptor
    if answered is not None and answered.predictions:
        tensors = [_column(answered.predictions)]
        if answered.probabilities is not None:
            tensors.append(_probabilities(answered.probabilities))
        return tuple(TensorSpec(tensor.name, tensor.datatype, (-1, *tensor.shape[1:])) for tensor in tensors)
    if descriptor.answers:
        named = zip((PREDICT, PROBA), descriptor.answers, strict=False)
        return tuple(TensorSpec(name, datatype, shape) for name, (datatype, shape) in named)
    classes = descriptor.classes
    predictions = TensorSpec(PREDICT, "FP64" if classes is None else datatype_of(classes), (-1,))
    if not descriptor.proba:
        return (predictions,)
    return (predictions, TensorSpec(PROBA, "FP64", (-1, -1 if classes is None else len(classes))))


def _probabilities(rows: list[Any]) -> Tensor:
    """
    Make the tensor of probabilities, one row per answer.

    Several outputs become a third axis if they have the same number of classes; else their columns are joined.
    """
    shape: tuple[int, ...] = (len(rows), len(rows[0]))
    if rows[0] and isinstance(rows[0][0], list):
        widths = [len(output) for output in rows[0]]
        rows = [[share for output in row for share in output] for row in rows]
        shape = (len(rows), len(widths), widths[0]) if len(set(widths)) == 1 else (len(rows), sum(widths))
    return Tensor(name=PROBA, datatype="FP64", shape=shape, values=[share for row in rows for share in row])


def _column(values: list[Any]) -> Tensor:
    if values and isinstance(values[0], list) and _is_table(values):
        flat = [inner for row in values for inner in row]
        if not any(isinstance(inner, list | dict) for inner in flat):
            return _carrying(flat, (len(values), len(values[0])))
    return _carrying(values, (len(values),))


def _is_table(rows: list[Any]) -> bool:
    width = len(rows[0])
    return all(isinstance(row, list) and len(row) == width for row in rows)


def _carrying(values: list[Any], shape: tuple[int, ...]) -> Tensor:
    """Make the tensor ``predict``; in a BYTES tensor, every value that is not text becomes JSON text."""
    datatype = datatype_of(values)
    if datatype == "BYTES":
        values = [value if isinstance(value, str) else msgspec.json.encode(value).decode() for value in values]
    return Tensor(name=PREDICT, datatype=datatype, shape=shape, values=values)
