"""Infer the input contract of a model from its column names, a given signature, the training rows or the example."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

import numpy as np

from mendel.errors import InvalidInput
from mendel.serving.input_contract import Container, Content, ContractColumn, InputContract, nullable_column
from mendel.serving.model_program import fitted_names
from mendel.serving.value_decoding import zone_of
from mendel.values import ColumnType, Signature, Table
from mendel.values.data_frames import arrays_in, as_array, is_frame, is_null, require_distinct_columns

_SCALARS: Final = {
    bool: Content.BOOLEAN,
    int: Content.INTEGER,
    float: Content.FLOAT,
    str: Content.TEXT,
    Decimal: Content.DECIMAL,
    date: Content.DATE,
}
_NUMPY_KINDS: Final = {
    "f": Content.FLOAT,
    "i": Content.INTEGER,
    "u": Content.INTEGER,
    "b": Content.BOOLEAN,
    "M": Content.DATETIME,
    "U": Content.TEXT,
}


def infer_contract(model: Any, *, signature: Signature | None, rows: Any) -> InputContract | None:
    """
    Infer the columns, types and container that *model* was fitted on.

    Args:
        signature: The signature that the caller gave, or None.
        rows: The training features, else the input example: a frame, a Table, or an array; None for neither.

    Returns:
        The contract; None if neither *model*, *signature* nor *rows* gives the columns.

    Raises:
        InvalidInput: *signature* or *rows* contradicts the names of the model, or a column has a type without an
            equivalent in JSON.
    """
    if rows is None:
        if signature is None or not signature.inputs:
            return None
        names = fitted_names(model, signature.names)
        contract = InputContract.of_signature(signature, Container.FRAME if names else Container.ARRAY)
        return _in_order(contract, names, "The signature")
    contract = contract_of(rows)
    named = isinstance(rows, Table) or is_frame(rows)
    names = fitted_names(model, contract.names if named else ())
    if names is not None and not named and len(names) == len(contract.columns):
        contract = _renamed(contract, names)
    elif names is not None:
        contract = _in_order(contract, names, "The training data or input example", may_have_more=True)
    if signature is not None and signature.inputs:
        contract = _narrowed(contract, signature, model_names=names)
    container = Container.FRAME if names is not None else contract.container
    if names is None and (width := _fitted_width(model)) is not None:
        if width != len(contract.columns):
            raise InvalidInput(
                f"The rows have {len(contract.columns)} columns, but the model was fitted on {width} columns.",
                remedy="Give the columns that the model was fitted on.",
            )
        container = Container.ARRAY
    return InputContract(container=container, columns=contract.columns, array_dtype=contract.array_dtype)


def _fitted_width(model: Any) -> int | None:
    """Give the number of columns of the array that *model* was fitted on; None if *model* does not state it."""
    width = getattr(model, "n_features_in_", None)
    return width if isinstance(width, int) else None


def contract_of(rows: Any) -> InputContract:
    """
    Infer the contract of *rows* alone: a pandas or polars frame, a Table, or an array of shape (rows, columns).

    Raises:
        InvalidInput: A column is named twice, or has a type without an equivalent in JSON.
    """
    if isinstance(rows, Table):
        columns = tuple(_numpy_column(name, rows[name]) for name in rows.names)
        return InputContract(container=Container.ARRAY, columns=columns)
    if is_frame(rows):
        frame = as_pandas(rows)
        return InputContract(
            container=Container.FRAME, columns=tuple(_series_column(str(name), frame[name]) for name in frame.columns)
        )
    array = as_array(rows)
    columns = tuple(_numpy_column(f"x{place}", array[:, place]) for place in range(array.shape[1]))
    array_dtype = "object" if array.dtype.kind == "U" else array.dtype.name
    return InputContract(container=Container.ARRAY, columns=columns, array_dtype=array_dtype)


def infer_signature(features: Any, outputs: Any = None) -> Signature:
    """
    Infer the signature of a Table, a frame, or an array of shape (rows, columns), whose columns are x0, x1...

    A column with a missing value allows null.

    >>> infer_signature(np.zeros((2, 1))).inputs
    (ColumnSpec(name='x0', type=<ColumnType.DOUBLE: 'double'>, required=True),)
    """
    contract = contract_of(features)
    output = None if outputs is None else output_type(np.asarray(outputs))
    return Signature.of_columns(tuple(column.spec for column in contract.columns), output=output)


def output_type(column: np.ndarray[Any, Any]) -> ColumnType:
    """Give MLflow's type for a column of answers."""
    kinds = {"b": ColumnType.BOOLEAN, "i": ColumnType.LONG, "u": ColumnType.LONG, "f": ColumnType.DOUBLE}
    if column.dtype.kind == "O" and {type(value) for value in column.ravel().tolist()} - {type(None)} == {bool}:
        return ColumnType.BOOLEAN
    return kinds.get(column.dtype.kind, ColumnType.STRING)


def output_text(answers: Sequence[Any]) -> str:
    """Give the outputs of a signature as MLflow writes them, for answers of one value or one list per row."""
    first = answers[0]
    if isinstance(first, list | tuple):
        column = np.asarray(answers)
        spec = {"dtype": str(column.dtype), "shape": [-1, *column.shape[1:]]}
        return json.dumps([{"type": "tensor", "tensor-spec": spec}])
    return json.dumps([{"type": output_type(np.asarray(answers)).value, "required": True}])


def as_pandas(rows: Any) -> Any:
    """
    Give a pandas frame of *rows*, which is a pandas or polars frame.

    Raises:
        InvalidInput: Two columns have the same name.
    """
    require_distinct_columns(rows)
    return rows if hasattr(rows, "iloc") else rows.to_pandas()


def _series_column(name: str, series: Any) -> ContractColumn:
    dtype = series.dtype
    text = str(dtype)
    nullable = bool(series.isna().any())
    if text == "category":
        categories = dtype.categories
        values = categories.tolist()
        content = _content_of(name, values)
        if content in {Content.DATETIME, Content.DATE, Content.DECIMAL}:
            raise _unsupported(name, f"categories of type {categories.dtype}")
        return ContractColumn(
            name=name,
            dtype="category",
            content=content,
            nullable=nullable,
            categories=tuple(values),
            categories_dtype=str(categories.dtype),
            ordered=bool(dtype.ordered),
        )
    if text == "object":
        return _object_column(name, series.tolist())
    kind = getattr(dtype, "kind", "O")
    if text.startswith(("string", "str", "large_string")):
        return ContractColumn(name=name, dtype=text, content=Content.TEXT, nullable=nullable)
    if text.startswith(("Sparse", "period", "interval", "timedelta", "complex")) or kind not in _NUMPY_KINDS:
        raise _unsupported(name, text)
    if kind == "M" and zone_of(text) is None:
        raise _unsupported(name, text)
    return ContractColumn(name=name, dtype=text, content=_NUMPY_KINDS[kind], nullable=nullable)


def _numpy_column(name: str, column: np.ndarray[Any, Any]) -> ContractColumn:
    kind = column.dtype.kind
    if kind == "O":
        return _object_column(name, column.tolist())
    if kind == "U":
        return ContractColumn(name=name, dtype="object", content=Content.TEXT)
    if kind not in _NUMPY_KINDS:
        raise _unsupported(name, str(column.dtype))
    nullable = bool(np.isnan(column).any()) if kind == "f" else bool(np.isnat(column).any()) if kind == "M" else False
    return ContractColumn(name=name, dtype=str(column.dtype), content=_NUMPY_KINDS[kind], nullable=nullable)


def _object_column(name: str, values: list[Any]) -> ContractColumn:
    gone = [value for value in values if is_null(value)]
    missing = "None"
    if gone and gone[0] is not None:
        missing = "NA" if type(gone[0]).__name__ == "NAType" else "nan"
    return ContractColumn(
        name=name,
        dtype="object",
        content=_content_of(name, [value for value in values if not is_null(value)]),
        nullable=bool(gone),
        missing=missing,
    )


def _content_of(name: str, values: list[Any]) -> Content:
    kinds = {type(value.item()) if isinstance(value, np.generic) else type(value) for value in values}
    if kinds & {list, tuple, np.ndarray}:
        raise arrays_in(name)
    if any(issubclass(kind, datetime) for kind in kinds):
        if all(issubclass(kind, datetime) for kind in kinds):
            return Content.DATETIME
        raise _unsupported(name, "times beside other values")
    if not kinds:
        return Content.TEXT
    if kinds <= {int, float} and float in kinds:
        return Content.FLOAT
    if len(kinds) == 1:
        (kind,) = kinds
        if kind in _SCALARS:
            return _SCALARS[kind]
    if kinds <= {bool, int, float, str}:
        return Content.MIXED
    raise _unsupported(name, " and ".join(sorted(kind.__name__ for kind in kinds - set(_SCALARS))) or "mixed values")


def _unsupported(name: str, kind: str) -> InvalidInput:
    return InvalidInput(
        f"Column {name!r} contains {kind}, which requests cannot represent.",
        remedy="Convert the column to numbers, text, booleans or times before fitting.",
    )


def _renamed(contract: InputContract, names: tuple[str, ...]) -> InputContract:
    columns = tuple(_with_name(column, name) for column, name in zip(contract.columns, names, strict=True))
    return InputContract(container=contract.container, columns=columns, array_dtype=contract.array_dtype)


def _with_name(column: ContractColumn, name: str) -> ContractColumn:
    return replace(column, name=name)


def _in_order(
    contract: InputContract, names: tuple[str, ...] | None, source: str, *, may_have_more: bool = False
) -> InputContract:
    """Put the columns in the order of the fitted model."""
    if names is None:
        return contract
    given = {column.name: column for column in contract.columns}
    lacking, extra = [name for name in names if name not in given], [name for name in given if name not in names]
    if lacking or (extra and not may_have_more):
        wrong = f"lacks {lacking[0]!r}" if lacking else f"has {extra[0]!r}, which the model does not know"
        raise InvalidInput(
            f"{source} {wrong}: the model was fitted on {', '.join(names[:20])}.",
            remedy="Use the names that the model was fitted on, or fit the model again.",
        )
    return InputContract(
        container=contract.container, columns=tuple(given[name] for name in names), array_dtype=contract.array_dtype
    )


def _narrowed(contract: InputContract, signature: Signature, *, model_names: tuple[str, ...] | None) -> InputContract:
    """Check that the caller's signature fits the contract, and make the columns nullable that are optional in it."""
    specs = {spec.name: spec for spec in signature.inputs}
    if model_names is not None and set(specs) != set(model_names):
        wrong = min(set(specs) ^ set(model_names))
        fault = f"has the column {wrong!r}, which the model lacks" if wrong in specs else f"lacks the column {wrong!r}"
        raise InvalidInput(
            f"The signature {fault}; the model was fitted on {', '.join(model_names[:20])}.",
            remedy="Give a signature with the names that the model was fitted on.",
        )
    given = {column.name: column for column in contract.columns}
    order = contract.names if model_names is not None else signature.names
    if lacking := [name for name in order if name not in given]:
        raise InvalidInput(
            f"The training data lack the columns {', '.join(map(repr, lacking))} of the signature.",
            remedy=f"The training data have the columns {', '.join(contract.names)}.",
        )
    columns = []
    for name in order:
        column, spec = given[name], specs[name]
        if _disagree(spec.type, column):
            raise InvalidInput(
                f"Column {name!r} has the type {spec.type} in the signature, but {column.dtype} in the data.",
                remedy="Correct the signature, or leave it out.",
            )
        columns.append(column if spec.required else nullable_column(column))
    return InputContract(container=contract.container, columns=tuple(columns), array_dtype=contract.array_dtype)


def _disagree(kind: ColumnType, column: ContractColumn) -> bool:
    mine = column.spec.type
    if mine == kind or (mine.numeric and kind.numeric) or column.content in {Content.MIXED, Content.DECIMAL}:
        return False
    return {mine, kind} != {ColumnType.STRING, ColumnType.DATETIME}
