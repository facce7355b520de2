"""Tensors of the Open Inference Protocol v2, written and read without the code of any server."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mendel.conformance.outcomes import Undecided, Violation, shown

FORMATS: Final = {
    "BOOL": "?",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
"""The :mod:`struct` format of one element of each datatype of fixed size."""
DATATYPES: Final = frozenset({*FORMATS, "BYTES", "BF16"})
"""The datatypes of the specification, and BF16, which the specification mentions and Triton announces."""
_FLOATS: Final = frozenset({"FP16", "FP32", "FP64", "BF16"})
_CLOSE: Final = 1e-4
_EXACT: Final = 2**53
_LENGTH: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnnouncedTensor:
    """An input or output in the metadata of a model; -1 in the shape is a variable length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor with its elements in row-major order; elements of BYTES are text or bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: tuple[Any, ...]


def flat(data: Any) -> Iterator[Any]:
    """Give the elements of nested lists in order, however deep they are."""
    waiting = [iter(data)]
    while waiting:
        for item in waiting[-1]:
            if isinstance(item, list):
                waiting.append(iter(item))
                break
            yield item
        else:
            waiting.pop()


def nested(values: Sequence[Any], shape: Sequence[int]) -> list[Any]:
    """
    Give *values* as lists nested like *shape*.

    >>> nested([1, 2, 3, 4], [2, 2])
    [[1, 2], [3, 4]]
    """
    rows: list[Any] = list(values)
    for axis in reversed(shape[1:]):
        rows = [rows[place : place + axis] for place in range(0, len(rows), axis)]
    return rows


def is_element(value: Any, datatype: str) -> bool:
    """
    Tell whether a JSON value can be an element of *datatype*.

    JSON has no NaN, so null is an element of the floating-point types; 0 and 1 are elements of BOOL.

    >>> is_element(255, "UINT8"), is_element(256, "UINT8"), is_element(2.0, "INT64"), is_element(None, "FP32")
    (True, False, True, True)
    """
    if datatype == "BYTES":
        return isinstance(value, str)
    if datatype == "BOOL":
        return isinstance(value, bool) or (isinstance(value, int | float) and value in {0, 1})
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        return False
    if datatype in _FLOATS:
        return True
    bits = int(datatype.lstrip("UINT"))
    least, most = (0, 1 << bits) if datatype.startswith("U") else (-(1 << bits - 1), 1 << bits - 1)
    return value is not None and (isinstance(value, int) or value.is_integer()) and least <= value < most


def to_raw(tensor: Tensor) -> bytes:
    """
    Write the elements as raw bytes: little-endian, with a length of 4 bytes before each element of BYTES.

    Raises:
        Undecided: The datatype has no raw form that this kit writes.
    """
    if tensor.datatype == "BYTES":
        texts = [value if isinstance(value, bytes) else str(value).encode() for value in tensor.values]
        return b"".join(_LENGTH.pack(len(text)) + text for text in texts)
    if tensor.datatype not in FORMATS:
        raise Undecided(f"Tensors of the datatype {shown(tensor.datatype)} cannot be written as bytes.")
    return struct.pack(f"<{len(tensor.values)}{FORMATS[tensor.datatype]}", *map(number, tensor.values))


def number(value: Any) -> Any:
    """Give *value*, and NaN in the place of null, which stands for NaN in JSON only."""
    return math.nan if value is None else value


def from_raw(raw: bytes, name: str, datatype: str, shape: Sequence[int]) -> Tensor:
    """
    Read a tensor that :func:`to_raw` could have written.

    Raises:
        Violation: The number of bytes does not fit the datatype and the shape.
    """
    count = math.prod(shape)
    if datatype == "BYTES":
        values: tuple[Any, ...] = tuple(_texts(raw, name))
    elif datatype not in FORMATS:
        raise Violation(f"The raw contents of output {shown(name)} have the unknown datatype {shown(datatype)}.")
    elif len(raw) != count * struct.calcsize(f"<{FORMATS[datatype]}"):
        raise Violation(f"Output {shown(name)} has {len(raw)} raw bytes for {datatype} of shape {list(shape)}.")
    else:
        values = struct.unpack(f"<{count}{FORMATS[datatype]}", raw)
    if len(values) != count:
        raise Violation(f"Output {shown(name)} has {len(values)} elements for the shape {list(shape)}.")
    return Tensor(name=name, datatype=datatype, shape=tuple(shape), values=values)


def difference(first: Iterable[Tensor], second: Iterable[Tensor]) -> str | None:
    """
    Tell the first difference between two answers; floating-point numbers may differ by 1e-4, relatively.

    The answers may come over different protocols, so null stands for NaN, text for its bytes, and 1 for true.
    """
    others = {tensor.name: tensor for tensor in second}
    given = {tensor.name: tensor for tensor in first}
    if given.keys() != others.keys():
        return f"outputs {sorted(given)} and {sorted(others)}"
    for name, tensor in given.items():
        other = others[name]
        if (tensor.datatype, tensor.shape) != (other.datatype, other.shape):
            return f"{shown(name)}: {_form(tensor)} and {_form(other)}"
        for place, (one, two) in enumerate(zip(tensor.values, other.values, strict=True)):
            if not _equal(_plain(one), _plain(two), close=tensor.datatype in _FLOATS):
                return f"{shown(name)}, element {place}: {shown(one, 40)} and {shown(two, 40)}"
    return None


def _form(tensor: Tensor) -> str:
    return f"{shown(tensor.datatype)} {list(tensor.shape)}"


def _equal(one: Any, two: Any, *, close: bool) -> bool:
    if close and isinstance(one, float) and isinstance(two, float):
        return one == two or (math.isnan(one) and math.isnan(two)) or math.isclose(one, two, rel_tol=_CLOSE)
    return bool(one == two)


def _plain(value: Any) -> Any:
    match value:
        case None:
            return math.nan
        case bytes():
            return value.decode(errors="replace")
        case int() if not isinstance(value, bool):
            return value if abs(value) > _EXACT else float(value)
        case _:
            return value


def _texts(raw: bytes, name: str) -> Iterator[bytes]:
    place = 0
    while place < len(raw):
        if place + _LENGTH.size > len(raw):
            raise Violation(f"The raw contents of output {shown(name)} end within the length of an element.")
        (length,) = _LENGTH.unpack_from(raw, place)
        place += _LENGTH.size
        if place + length > len(raw):
            raise Violation(f"The raw contents of output {shown(name)} end within an element.")
        yield raw[place : place + length]
        place += length
