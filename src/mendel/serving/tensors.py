"""v2 tensors: JSON values, raw and binary contents, to and from numpy."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from mendel.errors import InvalidRequest
from mendel.serving.entities import Matrix, Tensor, Tensors
from mendel.serving.row_batches import objects

DTYPES: dict[str, str] = {
    "BOOL": "?",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
"""v2's datatypes of fixed size as numpy writes them; ``BYTES`` is the one of varying size."""

_LENGTH = struct.Struct("<I")
Array = np.ndarray[Any, Any]


def from_raw(raw: bytes | memoryview, datatype: str, shape: Sequence[int]) -> Array:
    """
    Read a tensor's raw contents: little-endian, row-major; ``BYTES`` elements carry a 4-byte length each.

    Raises:
        InvalidRequest: The bytes do not make the shape.
    """
    size = elements(shape)
    if datatype == "BYTES":
        return _from_bytes(bytes(raw), size).reshape(tuple(shape))
    dtype = np.dtype(known_dtype(datatype))
    if len(raw) != size * dtype.itemsize:
        raise InvalidRequest(f"{len(raw)} bytes do not make a {datatype} tensor of shape {list(shape)}.")
    return np.frombuffer(raw, dtype=dtype).reshape(tuple(shape))


def to_raw(values: Array, datatype: str) -> bytes:
    """Write a tensor's raw contents, as :func:`from_raw` reads them."""
    if datatype == "BYTES":
        texts = [value if isinstance(value, bytes) else str(value).encode() for value in values.ravel().tolist()]
        return b"".join(_LENGTH.pack(len(text)) + text for text in texts)
    return np.ascontiguousarray(values, dtype=known_dtype(datatype)).tobytes()


def known_dtype(datatype: str) -> str:
    """The numpy type of *datatype*, which is of fixed size."""
    if datatype not in DTYPES:
        raise InvalidRequest(f"{datatype!r} is not a v2 datatype.", remedy=f"Use {', '.join(DTYPES)} or BYTES.")
    return DTYPES[datatype]


def elements(shape: Sequence[int]) -> int:
    """How many elements a tensor of *shape* has."""
    if any(isinstance(axis, bool) or not isinstance(axis, int) or axis < 0 for axis in shape):
        raise InvalidRequest(f"{list(shape)} is not a shape.")
    return math.prod(shape)


def datatype_of(values: Sequence[Any]) -> str:
    """The datatype that carries a column of answers: BOOL, INT64, FP64 or, for everything else, BYTES."""
    kinds = set(map(type, values))
    if kinds == {bool}:
        return "BOOL"
    if kinds == {int}:
        return "INT64"
    return "FP64" if kinds and kinds <= {int, float, type(None)} else "BYTES"


def matrix_of(given: Tensors, names: tuple[str, ...] | None) -> Matrix:
    """
    The rows that *given* means: one tensor of shape (rows, features), or one tensor per feature.

    Args:
        names: The features that the model takes, where that is known.

    Raises:
        InvalidRequest: Tensors that do not make rows.
    """
    if not given.tensors:
        raise InvalidRequest("The request has no inputs.")
    first = given.tensors[0]
    if len(given.tensors) == 1 and not (names is not None and len(names) == 1 and first.name == names[0]):
        if len(first.shape) == 2:  # noqa: PLR2004 - rows by columns
            return Matrix(rows=_rows(first))
        if len(first.shape) == 1 and (names is None or first.name not in names):
            return Matrix(
                rows=_rows(
                    Tensor(name=first.name, datatype=first.datatype, shape=(1, *first.shape), values=first.values)
                )
            )
    return _columns(given.tensors)


def _rows(tensor: Tensor) -> Any:
    values = array_of(tensor)
    if values.dtype.kind in "SO":
        return [[_text(value) for value in row] for row in values.tolist()]
    return values


def _columns(tensors: tuple[Tensor, ...]) -> Matrix:
    columns = []
    for tensor in tensors:
        values = array_of(tensor)
        if values.ndim not in {1, 2} or (values.ndim == 2 and values.shape[1] != 1):  # noqa: PLR2004 - a column
            raise InvalidRequest(
                f"Input {tensor.name!r} of shape {list(tensor.shape)} is not one value per row.", feature=tensor.name
            )
        columns.append([_element(value) for value in values.ravel().tolist()])
    if len({len(column) for column in columns}) > 1:
        raise InvalidRequest("The inputs have different numbers of rows.")
    return Matrix(rows=list(zip(*columns, strict=True)), columns=tuple(tensor.name for tensor in tensors))


def array_of(tensor: Tensor) -> Array:
    """
    *tensor* as an array of its shape.

    Raises:
        InvalidRequest: Its values are not of its datatype or do not make its shape.
    """
    size = elements(tensor.shape)
    if isinstance(tensor.values, np.ndarray):
        values = tensor.values
    elif tensor.datatype == "BYTES":
        values = objects(_flat(tensor.values))
    else:
        values = _numbers(tensor)
    if values.size != size:
        raise InvalidRequest(
            f"Input {tensor.name!r} has {values.size} values, which do not make the shape {list(tensor.shape)}.",
            feature=tensor.name,
        )
    return values.reshape(tensor.shape)


def _numbers(tensor: Tensor) -> Array:
    dtype = known_dtype(tensor.datatype)
    flat = _flat(tensor.values)
    wanted = {bool} if tensor.datatype == "BOOL" else {int, float} if tensor.datatype.startswith("FP") else {int}
    nullable = set(map(type, flat)) - wanted
    if nullable == {type(None)}:
        return objects(flat)
    if nullable:
        wrong = next(value for value in flat if type(value) not in wanted)
        raise InvalidRequest(
            f"Input {tensor.name!r} holds {wrong!r}, which is no {tensor.datatype}.", feature=tensor.name
        )
    try:
        return np.array(flat, dtype=dtype)
    except OverflowError as error:
        raise InvalidRequest(
            f"Input {tensor.name!r} holds a number too large for {tensor.datatype}.", feature=tensor.name
        ) from error


def _flat(values: Any) -> list[Any]:
    if not isinstance(values, list):
        raise InvalidRequest("A tensor's data is a list.")
    while values and isinstance(values[0], list):
        if not all(isinstance(part, list) for part in values):
            raise InvalidRequest("A tensor's data is nested unevenly.")
        values = [value for part in values for value in part]
    return list(values)


def _from_bytes(raw: bytes, size: int) -> Array:
    found: list[Any] = []
    place = 0
    while place + _LENGTH.size <= len(raw) and len(found) < size:
        (length,) = _LENGTH.unpack_from(raw, place)
        place += _LENGTH.size + length
        found.append(raw[place - length : place])
    if place != len(raw) or len(found) != size:
        raise InvalidRequest(f"{len(raw)} bytes do not make {size} BYTES elements.")
    return objects(found)


def _text(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest("A BYTES element is not UTF-8.") from error


def _element(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    return _text(value)
