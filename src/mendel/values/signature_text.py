"""Print a signature as MLflow prints it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mendel.errors import MendelError
from mendel.values.json_codec import read_json


def signature_text(inputs: str | None, outputs: str | None, params: str | None) -> str:
    """
    Write the text of MLflow's ``str(ModelSignature)`` from the JSON texts that an ``MLmodel`` holds.

    A text that MLflow could not read is written as it is.

    >>> print(signature_text('[{"type": "double", "name": "age", "required": true}]', None, None))
    inputs:
      ['age': double (required)]
    outputs:
      None
    params:
      None
    <BLANKLINE>
    """
    shown = _section(inputs, _column), _section(outputs, _column), _section(params, _param)
    return "inputs: \n  {}\noutputs: \n  {}\nparams: \n  {}\n".format(*shown)


def _section(text: str | None, shown: Callable[[dict[str, Any]], str]) -> str:
    if text is None:
        return "None"
    try:
        return f"[{', '.join(map(shown, read_json(text)))}]"
    except (MendelError, AttributeError, TypeError):
        return text


def _column(column: dict[str, Any]) -> str:
    name = column.get("name")
    prefix = "" if name is None else f"{name!r}: "
    if column.get("type") == "tensor":
        tensor = column.get("tensor-spec", {})
        return f"{prefix}Tensor({tensor.get('dtype')!r}, {tuple(tensor.get('shape', ()))!r})"
    return f"{prefix}{_type(column)} ({_need(column)})"


def _type(described: dict[str, Any]) -> str:
    match described.get("type"):
        case "object":
            properties: dict[str, dict[str, Any]] = described.get("properties", {})
            inner = (f"{name}: {_type(value)} ({_need(value)})" for name, value in properties.items())
            return f"{{{', '.join(inner)}}}"
        case "array":
            return f"Array({_type(described.get('items', {}))})"
        case "map":
            return f"Map(str -> {_type(described.get('values', {}))})"
        case "sparkml_vector":
            return "SparkML vector"
        case "any":
            return "Any"
        case other:
            return str(other)


def _need(described: dict[str, Any]) -> str:
    return "required" if described.get("required", True) else "optional"


def _param(param: dict[str, Any]) -> str:
    shape = param.get("shape")
    shown = "" if shape is None else f" (shape: {tuple(shape)!r})"
    kind = param.get("type") or param.get("dtype")
    text = _type(param) if kind == "object" else str(kind)
    return f"{param.get('name')!r}: {text} (default: {param.get('default')}){shown}"
