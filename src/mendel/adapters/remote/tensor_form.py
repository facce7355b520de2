"""The form in which one server takes the rows of a model: one tensor per column, or one tensor of all columns."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from mendel.adapters.remote.server_client import Announced
from mendel.errors import ModelNotLoadable
from mendel.serving import Frame, Tensor, TensorSpec
from mendel.serving.input_contract import Content, ContractColumn, InputContract
from mendel.serving.tensors import DTYPES
from mendel.values import ColumnSpec, ColumnType, Signature

BYTES: Final = "BYTES"
_COLUMN_TYPES: Final = {
    "BOOL": ColumnType.BOOLEAN,
    **dict.fromkeys(("INT8", "INT16", "INT32", "UINT8", "UINT16"), ColumnType.INTEGER),
    **dict.fromkeys(("INT64", "UINT32", "UINT64"), ColumnType.LONG),
    **dict.fromkeys(("FP16", "FP32"), ColumnType.FLOAT),
    "FP64": ColumnType.DOUBLE,
    BYTES: ColumnType.STRING,
}
_MOST_COLUMNS: Final = 100_000
_KINDS: Final = {"b": "BOOL", "f": "FP64", "i": "INT64", "u": "UINT64"}


def announced_signature(announced: Announced) -> Signature | None:
    """
    Give the signature of a model from its announced inputs; columns of one joint tensor are called x0, x1...

    None if the server announces no inputs, or a tensor of rows without saying how many columns they have.

    Raises:
        ModelNotLoadable: The inputs are not one value per row and column.
    """
    joint = _joint(announced.inputs)
    if joint is None:
        columns = tuple((spec.name, spec.datatype) for spec in announced.inputs)
    elif (width := joint.shape[1]) > 0:
        columns = tuple((f"x{place}", joint.datatype) for place in range(width))
    else:
        return None
    if not columns:
        return None
    return Signature.of_columns(tuple(ColumnSpec(name=name, type=_COLUMN_TYPES[kind]) for name, kind in columns))


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorForm:
    """
    How a server takes rows.

    Attributes:
        joint: The announced tensor of shape (rows, columns); None for one tensor per column.
        columns: The announced tensor of each column; empty if the server announces none.
        zoned: The columns whose times have a zone.
    """

    joint: TensorSpec | None
    columns: Mapping[str, TensorSpec]
    zoned: frozenset[str] = frozenset()

    @classmethod
    def of(cls, announced: Announced, contract: InputContract | None, *, nulls: bool) -> Self:
        """
        Give the form for rows that fit *contract*.

        Args:
            nulls: Whether the protocol can carry nulls in tensors other than of floating-point numbers.

        Raises:
            ModelNotLoadable: The announced inputs do not fit the contract, or the protocol cannot carry its values.
        """
        joint = _joint(announced.inputs)
        columns = {} if joint is not None else {spec.name: spec for spec in announced.inputs}
        if contract is not None and contract.columns:
            _check(contract, joint, columns, nulls=nulls)
        elif joint is not None and not joint.datatype.startswith("FP"):
            raise ModelNotLoadable(
                f"The server's input {joint.name!r} takes rows of {joint.datatype} and does not say how many columns.",
                remedy="Register the model again with a signature.",
            )
        zoned = () if contract is None else (c.name for c in contract.columns if ", " in c.dtype)
        return cls(joint=joint, columns=columns, zoned=frozenset(zoned))

    def tensors(self, frame: Frame) -> tuple[Tensor, ...]:
        """Give the rows of *frame* as the server takes them; a number too large for the server's type is infinite."""
        joint = self.joint
        with np.errstate(over="ignore"):
            if joint is not None:
                values = _converted(frame.matrix, joint.datatype, zoned=False)
                shape = (len(frame), len(frame.columns))
                return (Tensor(name=joint.name, datatype=joint.datatype, shape=shape, values=values),)
            return tuple(map(self._column, frame.shape.names, frame.columns))

    def _column(self, name: str, column: NDArray[Any]) -> Tensor:
        spec = self.columns.get(name)
        datatype = _KINDS.get(column.dtype.kind, BYTES) if spec is None else spec.datatype
        shape = (len(column), 1) if spec is not None and len(spec.shape) > 1 else (len(column),)
        values = _converted(column, datatype, zoned=name in self.zoned)
        return Tensor(name=name, datatype=datatype, shape=shape, values=values)


def _joint(inputs: Sequence[TensorSpec]) -> TensorSpec | None:
    """
    Give the only input if it holds all columns.

    Raises:
        ModelNotLoadable: An input is neither a column nor, alone, a tensor of shape (rows, columns).
    """
    for spec in inputs:
        if spec.datatype not in _COLUMN_TYPES:
            raise ModelNotLoadable(
                f"The server's input {spec.name!r} has the datatype {spec.datatype[:16]!r}, which rows cannot have."
            )
        tail = spec.shape[1:]
        if len(tail) > 1 or (tail and tail[0] != 1 and len(inputs) > 1):
            raise ModelNotLoadable(
                f"The server's input {spec.name!r} has the shape {list(spec.shape)}; Mendel sends one value per row "
                "and column.",
                remedy="Serve the model with one tensor of shape [rows, columns], or one tensor of shape [rows] per "
                "column.",
            )
        if tail and tail[0] > _MOST_COLUMNS:
            raise ModelNotLoadable(
                f"The server's input {spec.name!r} has {tail[0]} columns; at most {_MOST_COLUMNS} are allowed."
            )
    if len(inputs) == 1 and len(inputs[0].shape) > 1 and inputs[0].shape[1] != 1:
        return inputs[0]
    return None


def _check(
    contract: InputContract, joint: TensorSpec | None, columns: Mapping[str, TensorSpec], *, nulls: bool
) -> None:
    if joint is not None and joint.shape[1] not in {-1, len(contract.columns)}:
        raise ModelNotLoadable(
            f"The server takes rows of {joint.shape[1]} columns; the signature has {len(contract.columns)}.",
            remedy="Register the model again with the signature of the servers.",
        )
    if columns and columns.keys() != set(contract.names):
        lacking = sorted(columns.keys() ^ set(contract.names))
        raise ModelNotLoadable(
            f"The server's inputs and the signature's columns differ in {', '.join(map(repr, lacking[:5]))}.",
            remedy="Register the model again with the signature of the servers.",
        )
    for column in contract.columns:
        spec = joint or columns.get(column.name)
        datatype = _KINDS.get(np.dtype(column.held_as).kind, BYTES) if spec is None else spec.datatype
        if not _carries(datatype, column):
            raise ModelNotLoadable(
                f"Column {column.name!r} holds {column.content.value} ({column.dtype}); the server takes {datatype}.",
                remedy="Register the model again with the signature of the servers.",
            )
        if column.nullable and not nulls and not datatype.startswith("FP"):
            raise ModelNotLoadable(
                f"Column {column.name!r} may be null, which a {datatype} tensor over gRPC cannot carry.",
                remedy="Give the address of the server's REST port.",
            )


def _carries(datatype: str, column: ContractColumn) -> bool:
    """Tell whether a tensor of *datatype* carries every value of *column*; FP32 carries any number, if not exactly."""
    match column.content:
        case Content.TEXT | Content.DATE | Content.DATETIME:
            return datatype == BYTES
        case Content.BOOLEAN:
            return datatype != BYTES
        case Content.INTEGER:
            return datatype.startswith("FP") or (
                datatype not in {BYTES, "BOOL"} and np.can_cast(column.whole_dtype, DTYPES[datatype])
            )
        case Content.FLOAT | Content.DECIMAL:
            return datatype.startswith("FP")
        case _:
            return False


def _converted(column: NDArray[Any], datatype: str, *, zoned: bool) -> Any:
    """Give the values as an array, or as a flat list with None where they have nulls that an array cannot hold."""
    if datatype == BYTES:
        texts = _texts(column, zoned=zoned)
        return texts if None in texts else np.array(texts, dtype=object)
    floating = datatype.startswith("FP")
    if column.dtype.kind != "O" and (floating or column.dtype.kind != "f"):
        return column.astype(DTYPES[datatype], copy=False)
    values = column.ravel().tolist()
    if floating:
        return np.array([np.nan if value is None else float(value) for value in values], dtype=DTYPES[datatype])
    if column.dtype.kind == "f":  # an optional column of whole numbers
        values = [None if math.isnan(value) else int(value) for value in values]
    return values if None in values else np.array(values, dtype=DTYPES[datatype])


def _texts(column: NDArray[Any], *, zoned: bool) -> list[str | None]:
    if column.dtype.kind == "M":
        suffix = "Z" if zoned else ""
        return [None if text == "NaT" else text + suffix for text in np.datetime_as_string(column).tolist()]
    return [None if value is None else _text(value) for value in column.ravel().tolist()]


def _text(value: Any) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)
