"""Inputs made from the announced datatypes and shapes of a model; the same announcement gives the same inputs."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mendel.conformance.outcomes import Undecided, shown
from mendel.conformance.tensors import DATATYPES, FORMATS, AnnouncedTensor, Tensor, flat, is_element
from mendel.errors import InvalidValue

_MOST_ELEMENTS: Final = 5_000_000
_CYCLE: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """
    What to fill tensors with: numbers go up from 0 to 9 again and again unless ``number`` is given.

    A model may refuse a content that does not mean anything to it, so several are tried.
    """

    text: str
    number: int | None = None


CONTENTS: Final = (
    Content(text="a"),
    Content(text="0"),
    Content(text="2026-01-01T00:00:00"),
    Content(text="2026-01-01T00:00:00Z"),
    Content(text="1", number=1),
    Content(text="", number=0),
)


def made_inputs(announced: Sequence[AnnouncedTensor], content: Content, variable: int) -> tuple[Tensor, ...]:
    """
    Make a tensor for each announced input.

    Args:
        variable: The length of every axis that is announced as -1.

    Raises:
        Undecided: No input can be made for this announcement.
    """
    if not announced:
        raise Undecided("The metadata announces no inputs, so no request can be made; pass a request that fits.")
    return tuple(_made(one, content, variable) for one in announced)


def variations(announced: Sequence[AnnouncedTensor], variable: int) -> Iterator[tuple[Content, tuple[Tensor, ...]]]:
    """Give the inputs for each content, each only once."""
    seen: list[tuple[Tensor, ...]] = []
    for content in CONTENTS:
        inputs = made_inputs(announced, content, variable)
        if inputs not in seen:
            seen.append(inputs)
            yield content, inputs


def given_inputs(text: str) -> tuple[Tensor, ...]:
    """
    Read the inputs of an inference request in JSON.

    Raises:
        InvalidValue: The text is not such a request.

    >>> given_inputs('{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [[1, 2]]}]}')
    (Tensor(name='x', datatype='FP32', shape=(1, 2), values=(1.0, 2.0)),)
    """
    try:
        inputs = tuple(map(_given, json.loads(text)["inputs"]))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InvalidValue(
            f"The request is not an inference request of the Open Inference Protocol v2: {error!r}.",
            remedy='Write {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}.',
        ) from error
    for one in inputs:
        if math.prod(one.shape) != len(one.values):
            raise InvalidValue(f"Input {one.name!r} has {len(one.values)} values for the shape {list(one.shape)}.")
    return inputs


def _given(one: dict[str, Any]) -> Tensor:
    """Read one input of a request; the elements become those of Python that belong to the datatype."""
    datatype, values = str(one["datatype"]), tuple(flat(one["data"]))
    if datatype in DATATYPES:  # an unknown datatype is left to the server
        wrong = [value for value in values if not is_element(value, datatype)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is no element of {datatype}")
        kind = {"BYTES": str, "BOOL": bool}.get(datatype, int if "INT" in datatype else float)
        values = tuple(None if value is None else kind(value) for value in values)
    return Tensor(name=str(one["name"]), datatype=datatype, shape=tuple(map(int, one["shape"])), values=values)


def _made(announced: AnnouncedTensor, content: Content, variable: int) -> Tensor:
    shape = tuple(variable if axis == -1 else axis for axis in announced.shape)
    size = math.prod(shape)
    if size > _MOST_ELEMENTS:
        raise Undecided(f"Input {shown(announced.name)} would have {size} elements; pass a smaller request.")
    if announced.datatype not in {*FORMATS, "BYTES"}:
        raise Undecided(f"Inputs of the datatype {shown(announced.datatype)} cannot be made.")
    values = tuple(_element(announced.datatype, content, place) for place in range(size))
    return Tensor(name=announced.name, datatype=announced.datatype, shape=shape, values=values)


def _element(datatype: str, content: Content, place: int) -> Any:
    if datatype == "BYTES":
        return content.text
    number = place % _CYCLE if content.number is None else content.number
    if datatype == "BOOL":
        return number % 2 == 1
    return number / _CYCLE if datatype.startswith("FP") else number
