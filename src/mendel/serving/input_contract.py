"""The input contract of a version: the columns, exact types and container that its model was fitted on."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from mendel.errors import ModelNotLoadable
from mendel.serving.artifact_values import read_value, write_value
from mendel.serving.model_program import (
    INFERRED,
    NANOS,
    WHOLE_DTYPES,
    contract_array,
    contract_frame,
    is_numpy,
)
from mendel.serving.row_batches import DOUBLE, OBJECT, Frame, Shape
from mendel.values import ColumnSpec, ColumnType, Signature

if TYPE_CHECKING:
    import pandas as pd

CONTRACT_FILE: Final = "mendel/input_contract.json"
MICROS: Final = "M8[us]"


class Content(StrEnum):
    """The kind of values in a column."""

    FLOAT = "float"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    TEXT = "text"
    DATETIME = "datetime"
    DATE = "date"
    DECIMAL = "decimal"
    MIXED = "mixed"


class Container(StrEnum):
    """The kind of object that the model's ``predict`` receives."""

    FRAME = "frame"
    ARRAY = "array"


_SIGNATURE_TYPES: Final = {
    Content.FLOAT: ColumnType.DOUBLE,
    Content.INTEGER: ColumnType.LONG,
    Content.BOOLEAN: ColumnType.BOOLEAN,
    Content.TEXT: ColumnType.STRING,
    Content.DATETIME: ColumnType.DATETIME,
    Content.DATE: ColumnType.DATETIME,
    Content.DECIMAL: ColumnType.DOUBLE,
    Content.MIXED: ColumnType.STRING,
}
_CONTENTS: Final = {
    ColumnType.BOOLEAN: (Content.BOOLEAN, "bool"),
    ColumnType.INTEGER: (Content.INTEGER, "int32"),
    ColumnType.LONG: (Content.INTEGER, "int64"),
    ColumnType.FLOAT: (Content.FLOAT, "float32"),
    ColumnType.DOUBLE: (Content.FLOAT, "float64"),
    ColumnType.STRING: (Content.TEXT, INFERRED),
    ColumnType.DATETIME: (Content.DATETIME, "datetime64[ns]"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractColumn:
    """
    One column that the model was fitted on.

    Attributes:
        dtype: The type of the column, as pandas writes it: ``float64``, ``int64``, ``Int64``, ``category``,
            ``datetime64[ns, UTC]``, ``object``.
        nullable: True if the training rows contain a null; requests may then contain nulls, too.
        missing: The null of an ``object`` column: ``None``, ``nan`` or ``NA``.
        categories: The categories of a ``category`` column, in order; None for any other dtype.
        categories_dtype: The dtype of the categories.
        ordered: True if the categories are ordered, as in pandas.
    """

    name: str
    dtype: str
    content: Content
    nullable: bool = False
    missing: str = "None"
    categories: tuple[str | int | float | bool, ...] | None = None
    categories_dtype: str | None = None
    ordered: bool = False

    @property
    def spec(self) -> ColumnSpec:
        """The column of the signature that callers see."""
        kind = _SIGNATURE_TYPES[self.content]
        if self.dtype == "float32":
            kind = ColumnType.FLOAT
        elif self.dtype in {"int8", "int16", "int32", "uint8", "uint16"}:
            kind = ColumnType.INTEGER
        return ColumnSpec(name=self.name, type=kind, required=not self.nullable)

    @property
    def held_as(self) -> str:
        """The numpy type with which a batch stores the column; see :class:`~mendel.serving.row_batches.Shape`."""
        if self.dtype in WHOLE_DTYPES:
            return np.dtype(self.dtype).str.lstrip("<|")
        if self.dtype == "float32":
            return "f4"
        if self.content is Content.FLOAT or self.dtype == "float64":
            return DOUBLE
        match self.content:
            case Content.BOOLEAN if not self.nullable:
                return "?"
            case Content.DATETIME if self.dtype != "object":
                return NANOS if self.dtype.startswith("datetime64[ns") else MICROS
            case _:
                return OBJECT

    @property
    def whole_dtype(self) -> str:
        """The numpy type of whole numbers that the column can hold, as ``uint64``."""
        kind = self.dtype.split("[", maxsplit=1)[0].lower()
        return kind if kind in WHOLE_DTYPES else "int64"

    def bounds(self) -> tuple[int, int]:
        """Give the smallest and the largest whole number that the column can hold."""
        info = np.iinfo(self.whole_dtype)
        return int(info.min), int(info.max)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputContract:
    """
    The form of the rows that a model's ``predict`` receives.

    Attributes:
        columns: The columns, in the order in which the model was fitted.
        array_dtype: The numpy type of the array; None for a data frame, and for an array whose type follows from its
            columns.
    """

    container: Container
    columns: tuple[ContractColumn, ...]
    array_dtype: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def shape(self) -> Shape:
        """The names and numpy types with which a batch stores the columns."""
        return Shape(self.names, tuple(column.held_as for column in self.columns))

    @property
    def numeric(self) -> bool:
        """True when every column is a numpy column of numbers or booleans."""
        return all(is_numpy(column.dtype) for column in self.columns)

    def announced(self, given: Signature | None) -> Signature:
        """
        Give the signature that clients see: *given*, with its columns in the order of the contract.

        Clients that send lists of values must use this order.
        """
        if given is None or not given.inputs:
            return given or Signature.of_columns(tuple(column.spec for column in self.columns))
        if given.names == self.names:
            return given
        texts = {column["name"]: column for column in json.loads(given.inputs_text)}
        columns = {column.name: column for column in given.inputs}
        return replace(
            given,
            inputs=tuple(columns[name] for name in self.names),
            inputs_text=json.dumps([texts[name] for name in self.names]),
        )

    @classmethod
    def of_signature(cls, signature: Signature, container: Container = Container.ARRAY) -> InputContract:
        """Make the contract of a version that has only a signature; a nullable column of whole numbers is a float."""
        numeric = all(spec.type.numeric or spec.type is ColumnType.BOOLEAN for spec in signature.inputs)
        nullable = any(spec.type is ColumnType.BOOLEAN and not spec.required for spec in signature.inputs)
        return cls(
            container=container,
            columns=tuple(map(_column_of_spec, signature.inputs)),
            array_dtype="float64" if numeric and nullable else None,
        )

    def array(self, frame: Frame) -> NDArray[Any]:
        """Give the array that the model receives, of shape (rows, columns)."""
        return contract_array(self, frame.columns, lambda: frame.matrix)

    def frame(self, frame: Frame) -> pd.DataFrame:
        """
        Give the pandas frame that the model receives.

        Raises:
            ModelNotLoadable: pandas is not installed.
        """
        require_pandas()
        made: pd.DataFrame = contract_frame(self, frame.columns)
        return made


def _column_of_spec(spec: ColumnSpec) -> ContractColumn:
    content, dtype = _CONTENTS[spec.type]
    column = ContractColumn(name=spec.name, dtype=dtype, content=content)
    return column if spec.required else nullable_column(column)


def nullable_column(column: ContractColumn) -> ContractColumn:
    """Make *column* nullable, with the dtype that pandas gives to such a column if it contains a null."""
    if column.nullable:
        return column
    dtype = column.dtype
    if dtype in WHOLE_DTYPES:
        dtype = "float64"
    elif dtype == "bool":
        dtype = "object"
    return replace(column, dtype=dtype, nullable=True)


def write_contract(directory: Path, contract: InputContract) -> None:
    """Write *contract* into the artefact in *directory*."""
    write_value(directory, CONTRACT_FILE, contract)


def read_contract(directory: Path) -> InputContract | None:
    """
    Read the contract of the artefact in *directory*; None for an artefact that was written without a contract.

    Raises:
        ModelNotLoadable: The file is not a contract.
    """
    return read_value(directory, CONTRACT_FILE, InputContract)


def require_pandas() -> Any:
    """
    Import pandas.

    Raises:
        ModelNotLoadable: pandas is not installed.
    """
    try:
        import pandas as pd  # noqa: PLC0415 - only for models that were fitted on a frame
    except ImportError as error:
        raise ModelNotLoadable(
            "The model was fitted on a pandas data frame, but pandas is not installed here.",
            remedy="Install pandas in the environment of this server.",
        ) from error
    return pd
