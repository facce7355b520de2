"""Model signatures: the names and types of input and output columns, in MLflow's format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from mendel.errors import InvalidValue, MendelError
from mendel.values.json_codec import check_text, from_builtins, read_json
from mendel.values.signature_text import signature_text


class ColumnType(StrEnum):
    """The column types of MLflow signatures; tensors are not among them."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    LONG = "long"
    FLOAT = "float"
    DOUBLE = "double"
    STRING = "string"
    DATETIME = "datetime"

    @property
    def numeric(self) -> bool:
        """True for integer, long, float and double."""
        return self in {ColumnType.INTEGER, ColumnType.LONG, ColumnType.FLOAT, ColumnType.DOUBLE}


_WHOLE: Final = (ColumnType.INTEGER, ColumnType.LONG)
_NARROWER: Final = {
    ColumnType.LONG: (ColumnType.INTEGER,),
    ColumnType.FLOAT: _WHOLE,
    ColumnType.DOUBLE: (*_WHOLE, ColumnType.FLOAT),
}
"""The other types whose every value a column of a type accepts; a double beyond 3.4e38 is no float."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnSpec:
    """One column of a signature; its values may be null when ``required`` is False."""

    name: str
    type: ColumnType
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """
    The input and output columns of a model, in order.

    ``inputs_text``, ``outputs_text`` and ``params_text`` keep MLflow's JSON unchanged, so that the registry returns the
    signature that was registered, tensors included. ``inputs`` is empty for a tensor signature.
    """

    inputs: tuple[ColumnSpec, ...]
    inputs_text: str
    outputs_text: str | None = None
    params_text: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.inputs)

    def accepts(self, other: Signature) -> bool:
        """
        Tell whether every request that is valid for *other* is valid for this signature too.

        A version whose signature accepts the production version's signature may replace that version. Both must have
        the same columns, no optional column may become required, and every value of a column's type in *other* must
        fit its type here: a long fits a double, but a double does not fit a long.
        """
        if not self.inputs or not other.inputs:
            return self.inputs_text == other.inputs_text
        mine, theirs = {c.name: c for c in self.inputs}, {c.name: c for c in other.inputs}
        if mine.keys() != theirs.keys():
            return False
        return all(
            (mine[name].type == theirs[name].type or theirs[name].type in _NARROWER.get(mine[name].type, ()))
            and (theirs[name].required or not mine[name].required)
            for name in mine
        )

    @classmethod
    def of_columns(cls, inputs: tuple[ColumnSpec, ...], *, output: ColumnType | None = None) -> Signature:
        """Build a signature from its input columns and the type of its one output column."""
        text = json.dumps([{"type": c.type.value, "name": c.name, "required": c.required} for c in inputs])
        outputs = None if output is None else json.dumps([{"type": output.value, "required": True}])
        return cls(inputs=inputs, inputs_text=text, outputs_text=outputs)

    @classmethod
    def from_mlflow(cls, document: Mapping[str, Any]) -> Signature:
        """
        Read the ``signature`` mapping of an ``MLmodel`` file, which MLflow's ``ModelSignature.to_dict()`` gives too.

        Raises:
            InvalidValue: The mapping is not a signature.
        """
        text = document.get("inputs") or "[]"
        try:
            columns = from_builtins(read_json(text), list[dict[str, Any]])
            specs = tuple(_column(column) for column in columns if column.get("type") != "tensor")
            outputs, params = _text(document.get("outputs")), _text(document.get("params"))
        except (MendelError, TypeError) as error:
            raise InvalidValue(f"The document is not a model signature: {error}") from error
        return cls(inputs=specs, inputs_text=text, outputs_text=outputs, params_text=params)

    def to_mlflow(self) -> dict[str, Any]:
        """Give the mapping that MLflow stores under ``signature``."""
        return {"inputs": self.inputs_text, "outputs": self.outputs_text, "params": self.params_text}

    def __str__(self) -> str:
        """Write the signature as MLflow prints it."""
        return signature_text(self.inputs_text, self.outputs_text, self.params_text)


def _text(given: Any) -> str | None:
    return None if given is None else check_text(from_builtins(given, str))


def _column(document: dict[str, Any]) -> ColumnSpec:
    kind = document.get("type")
    if isinstance(kind, str) and kind not in list(ColumnType):
        raise InvalidValue(
            f"Column {document.get('name')!r} of the signature has the type {kind!r}, which requests cannot represent.",
            remedy=f"Use columns of the types {', '.join(ColumnType)}.",
        )
    known = {key: document[key] for key in ("name", "type", "required") if key in document}
    return from_builtins(known, ColumnSpec)
