"""Convert tensors of the Open Inference Protocol v2, from JSON values or raw bytes, to numpy arrays and back."""

from __future__ import annotations

import math
import reprlib
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from mendel.errors import InvalidRequest
from mendel.serving.entities import Matrix, Tensor, Tensors
from mendel.serving.request_size import check_values
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
"""The numpy types of the protocol's fixed-size datatypes; ``BYTES`` is not among them, its elements vary in size."""

MAX_AXES = 32
_FLOAT, _BOOL, _INT = {float}, {bool}, {int}
_SMALL = 1 << 63
_MAX_ELEMENTS = 1 << 40
_MATRIX, _FEW = 2, 1 << 20
_LENGTH = struct.Struct("<I")
_CODES = {"FP64": "d", "INT64": "q", "UINT64": "Q", "BOOL": "?"}
"""How the datatypes of answers are written by :mod:`struct`."""
_FEW_VALUES = 100
Array = np.ndarray[Any, Any]


def from_raw(raw: bytes | memoryview, datatype: str, shape: Sequence[int]) -> Array:
    """
    Read the raw contents of a tensor: little-endian and row-major; a 4-byte length precedes each ``BYTES`` element.

    Raises:
        InvalidRequest: The number of bytes does not fit the datatype and the shape.
        TooLarge: A ``BYTES`` tensor has more than ten million elements.
    """
    size = elements(shape)
    if datatype == "BYTES":
        check_values(size)
        return _from_bytes(bytes(raw), size).reshape(tuple(shape))
    dtype = np.dtype(known_dtype(datatype))
    if len(raw) != size * dtype.itemsize:
        raise InvalidRequest(
            f"A {datatype} tensor of shape {list(shape)} needs {size * dtype.itemsize} bytes, not {len(raw)}."
        )
    if datatype == "BOOL" and np.frombuffer(raw, dtype=np.uint8).max(initial=0) > 1:
        raise InvalidRequest("A BOOL tensor contains a byte that is neither 0 nor 1.")
    return np.frombuffer(raw, dtype=dtype).reshape(tuple(shape))


def to_raw(values: Array, datatype: str) -> bytes:
    """Write the raw contents of a tensor in the format that :func:`from_raw` reads."""
    if datatype == "BYTES":
        texts = [value if isinstance(value, bytes) else str(value).encode() for value in values.ravel().tolist()]
        return b"".join(_LENGTH.pack(len(text)) + text for text in texts)
    return np.ascontiguousarray(values, dtype=known_dtype(datatype)).tobytes()


def raw_of(values: list[Any], datatype: str) -> bytes:
    """Write the raw contents of a tensor with the builtin *values*; None becomes NaN."""
    if datatype == "BYTES":
        return to_raw(objects(values), datatype)
    code = _CODES.get(datatype)
    if code is None or len(values) > _FEW_VALUES:
        filled = [math.nan if value is None else value for value in values]
        return to_raw(np.array(filled, dtype=known_dtype(datatype)), datatype)
    if None in values:
        values = [math.nan if value is None else value for value in values]
    return struct.pack(f"<{len(values)}{code}", *values)


def known_dtype(datatype: str) -> str:
    """Give the numpy type of a fixed-size *datatype*; raises InvalidRequest for any other datatype."""
    if datatype not in DTYPES:
        raise InvalidRequest(f"{datatype!r} is not a v2 datatype.", remedy=f"Use {', '.join(DTYPES)} or BYTES.")
    return DTYPES[datatype]


def elements(shape: Sequence[int]) -> int:
    """
    Count the elements of a tensor of *shape*.

    Raises:
        InvalidRequest: The shape has more than 32 axes, a length below 0, rows without elements, or more elements than
            fit in memory.
    """
    if len(shape) == _MATRIX:
        rows, columns = shape
        if type(rows) is int and type(columns) is int and 0 <= rows < _FEW and 0 < columns < _FEW:
            return rows * columns
    if len(shape) > MAX_AXES:
        raise InvalidRequest(f"A tensor has {len(shape)} axes; at most {MAX_AXES} are allowed.")
    if any(type(axis) is not int or axis < 0 for axis in shape):
        raise InvalidRequest(
            f"{list(shape)} is not the shape of a tensor.", remedy="Give a list of whole numbers of at least 0."
        )
    if math.prod(axis or 1 for axis in shape) >= _MAX_ELEMENTS:
        raise InvalidRequest(f"A tensor of shape {list(shape)} does not fit in memory.")
    if 0 in shape[1:]:
        raise InvalidRequest(f"The rows of a tensor of shape {list(shape)} have no elements.")
    return math.prod(shape)


def datatype_of(values: Sequence[Any]) -> str:
    """Give the datatype for a column of predictions: BOOL, INT64, UINT64, FP64, or BYTES for any other values."""
    kinds = set(map(type, values))
    if kinds == _FLOAT:
        return "FP64"
    if kinds == _BOOL:
        return "BOOL"
    if kinds == _INT:
        if min(values) > -_SMALL and max(values) < _SMALL:
            return "INT64"
        fitting = (name for name in ("INT64", "UINT64") if _holds(np.iinfo(DTYPES[name]), values))
        return next(fitting, "BYTES")
    return "FP64" if kinds and kinds <= {int, float, type(None)} else "BYTES"


def _holds(kind: np.iinfo[Any], values: Sequence[int]) -> bool:
    return kind.min <= min(values) and max(values) <= kind.max


def announced_rows(given: Tensors, names: tuple[str, ...] | None) -> int:
    """
    Give the number of rows in the tensors of raw bytes, of which the number of bytes fits the shape.

    Args:
        names: As for :func:`matrix_of`.
    """
    if _is_one_row(given, names):
        return 1
    raw = (tensor for tensor in given.tensors if tensor.shape and isinstance(tensor.values, np.ndarray))
    return max((tensor.shape[0] for tensor in raw), default=0)


def matrix_of(given: Tensors, names: tuple[str, ...] | None) -> Matrix:
    """
    Convert tensors to rows: either one tensor of shape (rows, features), or one tensor per feature.

    Args:
        names: The names of the model's features; None when unknown.

    Raises:
        InvalidRequest: The tensors have different numbers of rows, a tensor does not have one value per row, or there
            are more tensors than features.
    """
    if not given.tensors:
        raise InvalidRequest("The request has no inputs.")
    first = given.tensors[0]
    if _is_one_row(given, names):
        row = Tensor(name=first.name, datatype=first.datatype, shape=(1, *first.shape), values=first.values)
        return Matrix(rows=_rows(row))
    if _is_matrix(given, names) and len(first.shape) == 2:  # noqa: PLR2004 - rows by columns
        return Matrix(rows=_rows(first))
    if names is not None and len(given.tensors) > len(names):
        known = dict.fromkeys(names)
        unknown = next((tensor.name for tensor in given.tensors if tensor.name not in known), None)
        raise InvalidRequest(
            f"The request has {len(given.tensors)} inputs; the model takes {len(names)} features."
            if unknown is None
            else f"Feature {unknown!r} is unknown.",
            feature=unknown,
        )
    return _columns(given.tensors)


def _is_matrix(given: Tensors, names: tuple[str, ...] | None) -> bool:
    """Whether the request has one tensor, which is not the only feature of the model."""
    return len(given.tensors) == 1 and names != (given.tensors[0].name,)


def _is_one_row(given: Tensors, names: tuple[str, ...] | None) -> bool:
    first = given.tensors[0] if _is_matrix(given, names) else None
    return first is not None and len(first.shape) == 1 and first.name not in (names or ())


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
                f"Input {tensor.name!r} has the shape {list(tensor.shape)}; it must have one value per row.",
                feature=tensor.name,
                remedy="Send one tensor of shape [rows, features], or one tensor of shape [rows] per feature.",
            )
        columns.append([_element(value) for value in values.ravel().tolist()])
    if len({len(column) for column in columns}) > 1:
        raise InvalidRequest("The input tensors have different numbers of rows.")
    return Matrix(rows=list(zip(*columns, strict=True)), columns=tuple(tensor.name for tensor in tensors))


def array_of(tensor: Tensor) -> Array:
    """
    Convert *tensor* to a numpy array of its shape.

    Raises:
        InvalidRequest: A value does not have the tensor's datatype, or the number of values does not fit its shape.
    """
    size = elements(tensor.shape)
    if isinstance(tensor.values, np.ndarray):
        values = tensor.values
    elif tensor.datatype == "BYTES":
        values = objects(_texts(tensor))
    else:
        values = _numbers(tensor)
    if values.size != size:
        raise InvalidRequest(
            f"Input {tensor.name!r} has {values.size} values; its shape {list(tensor.shape)} needs {size}.",
            feature=tensor.name,
        )
    return values.reshape(tensor.shape)


def _texts(tensor: Tensor) -> list[Any]:
    flat = _flat(tensor.values)
    if not {str, bytes, type(None)}.issuperset(map(type, flat)):
        raise InvalidRequest(f"Input {tensor.name!r} contains elements that are not text.", feature=tensor.name)
    return flat


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
            f"Input {tensor.name!r} contains {reprlib.repr(wrong)}, which is not of datatype {tensor.datatype}.",
            feature=tensor.name,
        )
    try:
        with np.errstate(over="ignore"):  # an infinity is refused later, by its feature's name
            return np.array(flat, dtype=dtype)
    except OverflowError as error:
        raise InvalidRequest(
            f"Input {tensor.name!r} contains a number too large for datatype {tensor.datatype}.", feature=tensor.name
        ) from error


def _flat(values: Any) -> list[Any]:
    if not isinstance(values, list):
        raise InvalidRequest("The 'data' of an input tensor is not a list.", remedy="Send a flat or nested list.")
    while values and isinstance(values[0], list):
        if not all(isinstance(part, list) for part in values):
            raise InvalidRequest("The 'data' of an input tensor mixes lists and values on one level.")
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
        raise InvalidRequest(f"The {len(raw)} raw bytes of a BYTES tensor do not contain exactly {size} elements.")
    return objects(found)


def _text(value: Any) -> Any:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest("An element of a BYTES tensor is not UTF-8 text.") from error


def _element(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return None
    return _text(value)
