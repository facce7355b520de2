"""The shape of a model's input, in MLflow's words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from mendel.errors import InvalidValue, MendelError
from mendel.values.json_codec import check_text, from_builtins, read_json


class ColumnType(StrEnum):
    """MLflow's column types."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    LONG = "long"
    FLOAT = "float"
    DOUBLE = "double"
    STRING = "string"
    DATETIME = "datetime"

    @property
    def numeric(self) -> bool:
        """Whether values of this type are numbers."""
        return self in {ColumnType.INTEGER, ColumnType.LONG, ColumnType.FLOAT, ColumnType.DOUBLE}


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnSpec:
    """One named column; ``required`` false means that null is allowed."""

    name: str
    type: ColumnType
    required: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """
    The columns a model takes and gives, in order.

    ``inputs_text`` and ``outputs_text`` keep MLflow's JSON as it came, so that what was registered comes back
    unchanged, tensors included; ``inputs`` is empty for a tensor signature.
    """

    inputs: tuple[ColumnSpec, ...]
    inputs_text: str
    outputs_text: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Input column names, in order."""
        return tuple(column.name for column in self.inputs)

    def accepts(self, other: Signature) -> bool:
        """
        Whether every request valid for *other* is valid for this one.

        So a version may replace another: same columns, no narrower type, nothing newly required.
        """
        if not self.inputs or not other.inputs:
            return self.inputs_text == other.inputs_text
        mine, theirs = {c.name: c for c in self.inputs}, {c.name: c for c in other.inputs}
        if mine.keys() != theirs.keys():
            return False
        return all(
            (mine[name].type == theirs[name].type or (mine[name].type.numeric and theirs[name].type.numeric))
            and (theirs[name].required or not mine[name].required)
            for name in mine
        )

    @classmethod
    def of_columns(cls, inputs: tuple[ColumnSpec, ...], *, output: ColumnType | None = None) -> Signature:
        """Build a signature from columns."""
        text = json.dumps([{"type": c.type.value, "name": c.name, "required": c.required} for c in inputs])
        outputs = None if output is None else json.dumps([{"type": output.value, "required": True}])
        return cls(inputs=inputs, inputs_text=text, outputs_text=outputs)

    @classmethod
    def from_mlflow(cls, document: Mapping[str, Any]) -> Signature:
        """Read the mapping that stands under ``signature`` in an ``MLmodel`` file or comes of ``to_dict()``."""
        text = document.get("inputs") or "[]"
        try:
            columns = from_builtins(read_json(text), list[dict[str, Any]])
            specs = tuple(_column(column) for column in columns if column.get("type") != "tensor")
            given = document.get("outputs")
            outputs = None if given is None else check_text(from_builtins(given, str))
        except (MendelError, TypeError) as error:
            raise InvalidValue(f"Not a model signature: {error}") from error
        return cls(inputs=specs, inputs_text=text, outputs_text=outputs)

    def to_mlflow(self) -> dict[str, Any]:
        """The mapping MLflow stores."""
        return {"inputs": self.inputs_text, "outputs": self.outputs_text, "params": None}

    def __str__(self) -> str:
        """As MLflow prints it."""
        outputs = "None" if self.outputs_text is None else self.outputs_text
        return f"inputs: \n  {self.inputs_text}\noutputs: \n  {outputs}\nparams: \n  None\n"


def _column(told: dict[str, Any]) -> ColumnSpec:
    kept = {key: told[key] for key in ("name", "type", "required") if key in told}
    return from_builtins(kept, ColumnSpec)
