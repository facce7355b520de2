"""Check the rows of a request against the model's signature; errors name the first invalid feature."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from itertools import islice
from operator import itemgetter
from typing import Any

import numpy as np

from mendel.errors import InvalidRequest, TooLarge
from mendel.serving.entities import Input, Matrix, Records, Tensors
from mendel.serving.input_contract import MICROS, ContractColumn, InputContract
from mendel.serving.model_program import NANOS
from mendel.serving.request_size import check_values
from mendel.serving.row_batches import DOUBLE, OBJECT, Frame, Rows, Shape, assemble
from mendel.serving.tensors import announced_rows, matrix_of
from mendel.serving.value_decoding import Decode, WrongValue, decoder_of, wanted
from mendel.values import Table

RECORDS, LISTS = "objects of features", "lists of values"
_NAT = np.iinfo(np.int64).min
_NUMBERS = frozenset({int, float})
_STRUCT_CODES = {
    "f8": "d",
    "f4": "f",
    "?": "?",
    MICROS: "q",
    NANOS: "q",
    "i1": "b",
    "i2": "h",
    "i4": "i",
    "i8": "q",
    "u1": "B",
    "u2": "H",
    "u4": "I",
    "u8": "Q",
}
_NULLS = {"f8": math.nan, "f4": math.nan, MICROS: _NAT, NANOS: _NAT}
_COMPARED = 200
"""The largest number of features, and of letters, that are compared with a misspelt name."""
_SHORT = 1_000
"""Longer lists of numbers are faster through numpy."""
_PRECISION = {"FP32": "f4", "FP16": "f2"}


class InputCodec:
    """
    Decodes the requests for one model version.

    Without a contract the columns are those of the request, and only their consistency is checked.

    Args:
        order: The order of the columns for a version without a contract (``api.feature_order``).
        max_rows: The largest number of rows in one request.
        forms: The accepted forms of rows if neither a contract nor *order* names the features: a model that takes an
            array cannot use objects of features, and a model that takes names cannot use lists of values.
    """

    def __init__(
        self,
        contract: InputContract | None,
        *,
        order: tuple[str, ...] | None,
        max_rows: int,
        forms: frozenset[str] = frozenset({RECORDS, LISTS}),
    ) -> None:
        self._max_rows = max_rows
        self._forms = forms
        self._columns = None if contract is None or not contract.columns else _Columns(contract)
        self._order = order

    def decode(self, given: Input) -> Rows:
        """
        Check the input *given* and convert it to rows.

        Raises:
            InvalidRequest: A feature is missing, unknown, of the wrong type or not finite; or the input has no rows.
            TooLarge: The input has more than ``max_rows`` rows.
        """
        if type(given) is Tensors and self._columns is not None and (quick := self._matrix(given)) is not None:
            return quick
        names, rows = self._named(given)
        self._check_rows(len(rows))
        if not len(rows):
            raise InvalidRequest("The request has no rows.", remedy="Send at least one row.")
        if self._columns is not None:
            return self._columns.decode(rows, names, _sent_as(given))
        if self._order is None:
            self._check_form(RECORDS if names is not None or isinstance(rows[0], Mapping) else LISTS)
        return _loose(rows, names, self._order)

    def _matrix(self, given: Tensors) -> Rows | None:
        """Give the rows of the most frequent request, one FP64 matrix of finite numbers; None for any other request."""
        columns = self._columns
        if columns is None or len(given.tensors) != 1 or not columns.shape.all_floats:
            return None
        (first,) = given.tensors
        width = len(columns.names)
        if first.datatype != "FP64" or len(first.shape) != 2 or first.shape[1] != width:  # noqa: PLR2004 - a matrix
            return None
        rows = first.shape[0]
        if not (type(rows) is int and 0 < rows <= self._max_rows) or columns.names == (first.name,):
            return None
        packed = _packed_matrix(first.values, rows * width)
        return None if packed is None else Rows(columns.shape, rows, packed)

    def _check_rows(self, count: int) -> None:
        if count > self._max_rows:
            raise TooLarge(
                f"The request has {count} rows; at most {self._max_rows} are allowed.",
                remedy="Send fewer rows per request.",
            )

    def _check_form(self, form: str) -> None:
        if form not in self._forms:
            (taken,) = self._forms
            raise InvalidRequest(
                f"The rows are {form}; this classifier takes {taken}, as api.adapter in its mlserver.yaml says.",
                remedy=f"Send {taken}, or name the features with api.feature_order in mlserver.yaml.",
            )

    def _named(self, given: Input) -> tuple[tuple[str, ...] | None, Any]:
        if isinstance(given, Records):
            return None, given.rows
        if isinstance(given, Matrix):
            return given.columns, given.rows
        if isinstance(given, Tensors):
            known = self._columns.names if self._columns else self._order
            self._check_rows(announced_rows(given, known))
            matrix = matrix_of(given, known)
            return matrix.columns, matrix.rows
        raise InvalidRequest("The request has no rows.", remedy="Send at least one row.")


def _packed_matrix(values: Any, size: int) -> bytes | None:
    """Pack *size* finite numbers in an array or a flat list as ``float64``; None for any other values."""
    if type(values) is list:
        if len(values) != size or size > _SHORT or not _NUMBERS.issuperset(map(type, values)):
            return None
        try:
            return struct.pack(f"={size}d", *values) if math.isfinite(sum(values)) else None
        except OverflowError:
            return None
    if not isinstance(values, np.ndarray) or values.dtype != np.float64 or values.size != size:
        return None
    return values.tobytes() if np.isfinite(values).all() else None


def _sent_as(given: Input) -> str | None:
    """Give the lowest precision among the tensors of a request; None if no tensor has half or single precision."""
    if not isinstance(given, Tensors):
        return None
    found = {_PRECISION[tensor.datatype] for tensor in given.tensors if tensor.datatype in _PRECISION}
    return min(found, default=None)


def frame_of(table: Table, contract: InputContract | None) -> Frame:
    """Check and convert the rows of *table* like the rows of a request; gives the batch for a predictor."""
    names = table.names if contract is None or not contract.columns else contract.names
    columns = [[None if value != value else value for value in table[name].tolist()] for name in names]  # noqa: PLR0124 - NaN is null
    codec = InputCodec(contract, order=names, max_rows=max(len(table), 1))
    return assemble([codec.decode(Matrix(rows=list(zip(*columns, strict=True)), columns=names))])


class _Columns:
    """The columns of a contract, with decoders that are prepared once for all rows."""

    def __init__(self, contract: InputContract) -> None:
        self.specs = contract.columns
        self.names = contract.names
        self._place_of = {name: place for place, name in enumerate(self.names)}
        self.shape = contract.shape
        self._as_sent = {kind: replace(self.shape, sent_as=kind) for kind in ("f4", "f2")}
        self._decoders = tuple(map(decoder_of, contract.columns))
        codes = "".join(_STRUCT_CODES.get(dtype, "") for dtype in self.shape.dtypes)
        self._pack = struct.Struct(f"={codes}").pack
        self._nulls = tuple(_NULLS.get(dtype) for dtype in self.shape.dtypes)
        self._get: Callable[[Mapping[str, Any]], Any] = itemgetter(*self.names)

    def decode(
        self, rows: Any, names: tuple[str, ...] | None, sent_as: str | None = None, *, null: str = "null"
    ) -> Rows:
        """Decode *rows*; *null* is what the caller sent for None."""
        shape = self.shape if sent_as is None else self._as_sent[sent_as]
        if isinstance(rows, np.ndarray):
            return self._array(rows, names, shape)
        order = None if names is None else self._places(names)
        placed = enumerate(rows)
        if shape.packed:
            return Rows(shape, len(rows), b"".join([self._packed(row, at, order, null) for at, row in placed]))
        return Rows(shape, len(rows), b"", [self._checked(row, at, order, null) for at, row in placed])

    def _packed(self, row: Any, place: int, order: tuple[int, ...] | None, null: str) -> bytes:
        if self.shape.all_floats:
            try:
                values = self._quick(row, order)
                if _NUMBERS.issuperset(map(type, values)):
                    packed = self._pack(*values)
                    if math.isfinite(sum(values)):
                        return packed
            except (KeyError, TypeError, IndexError, struct.error, OverflowError):
                pass  # _checked below raises an error that names the invalid feature
        values = self._checked(row, place, order, null)
        if None in values:
            values = [null if value is None else value for value, null in zip(values, self._nulls, strict=True)]
        return self._pack(*values)

    def _quick(self, row: Any, order: tuple[int, ...] | None) -> Any:
        if isinstance(row, dict):
            if len(row) != len(self.names):
                raise KeyError
            values = self._get(row)
            return values if len(self.names) > 1 else (values,)
        if type(row) not in {list, tuple} or len(row) != len(self.names):
            raise KeyError
        return row if order is None else [row[place] for place in order]

    def _checked(self, row: Any, place: int, order: tuple[int, ...] | None, null: str) -> list[Any]:
        values = self._by_name(row, place) if isinstance(row, Mapping) else self._by_place(row, place, order)
        return [
            _fit(value, spec, decode, place, null)
            for value, spec, decode in zip(values, self.specs, self._decoders, strict=True)
        ]

    def _by_name(self, row: Mapping[str, Any], place: int) -> list[Any]:
        missing = next((spec.name for spec in self.specs if spec.name not in row and not spec.nullable), None)
        unknown = next((name for name in row if name not in self._place_of), None)
        _check_names(missing, unknown, self.names, row, place)
        return [row.get(name) for name in self.names]

    def _by_place(self, row: Any, place: int, order: tuple[int, ...] | None) -> list[Any]:
        if isinstance(row, str | bytes) or not isinstance(row, Sequence):
            raise _refuse(f"Row {place} is neither an object of features nor a list of values.", None)
        width = len(self.names) if order is None else len(order)
        if len(row) < width:
            raise _refuse(
                f"Feature {self.names[len(row)]!r} is missing in row {place}: it has {len(row)} values.",
                self.names[len(row)],
            )
        if len(row) > width:
            raise _refuse(f"Row {place} has {len(row)} values; the model takes {width}.", None, known=self.names)
        return list(row) if order is None else [row[at] for at in order]

    def _places(self, names: tuple[str, ...]) -> tuple[int, ...]:
        if len(set(names)) != len(names):
            raise _refuse("The request names a column twice.", None)
        given = {name: place for place, name in enumerate(names)}
        missing = next((name for name in self.names if name not in given), None)
        unknown = next((name for name in names if name not in self._place_of), None)
        _check_names(missing, unknown, self.names, given)
        return tuple(given[name] for name in self.names)

    def _array(self, rows: np.ndarray[Any, Any], names: tuple[str, ...] | None, shape: Shape) -> Rows:
        if not shape.all_floats or rows.dtype.kind not in "fiu" or rows.ndim != 2:  # noqa: PLR2004 - rows by columns
            return _shaped(self.decode(_without_nan(rows.tolist()), names, null="NaN"), shape)
        if rows.shape[1] != len(self.names):
            self._by_place(range(rows.shape[1]), 0, None)
        ordered = rows if names is None else rows[:, self._places(names)]
        packed = np.ascontiguousarray(ordered, dtype=np.float64)
        if not np.isfinite(packed).all():
            return _shaped(self.decode(_without_nan(ordered.tolist()), None, null="NaN"), shape)
        return Rows(shape, len(packed), packed.tobytes())


def _shaped(rows: Rows, shape: Shape) -> Rows:
    return Rows(shape, rows.count, rows.packed, rows.objects)


def _without_nan(rows: list[Any]) -> list[Any]:
    """Give the rows of a tensor with NaN replaced by null."""
    return [
        [None if value != value else value for value in row] if isinstance(row, list) else row  # noqa: PLR0124 - NaN
        for row in rows
    ]


def _fit(value: Any, spec: ContractColumn, decode: Decode, place: int, null: str) -> Any:
    if value is None:
        if spec.nullable:
            return None
        raise _refuse(f"Feature {spec.name!r} of row {place} is {null}; it needs {wanted(spec)}.", spec.name)
    try:
        return decode(value)
    except WrongValue as wrong:
        needs = f", {wrong}" if str(wrong) else f"; it needs {wanted(spec)}"
        raise _refuse(f"Feature {spec.name!r} of row {place} is {_shown(value)}{needs}.", spec.name) from None


def _loose(rows: Any, names: tuple[str, ...] | None, order: tuple[str, ...] | None) -> Rows:
    if isinstance(rows, np.ndarray):
        check_values(rows.size)
        rows = rows.tolist()
    if names is None:
        names = order or (tuple(rows[0]) if isinstance(rows[0], Mapping) else None)
    if names is None:
        width = len(rows[0]) if isinstance(rows[0], Sequence) and not isinstance(rows[0], str) else 1
        names = tuple(f"x{place}" for place in range(width))
    if not names:
        raise InvalidRequest("The rows of the request have no values.")
    known = frozenset(names)
    values = [_loose_row(row, place, names, known) for place, row in enumerate(rows)]
    for place, row in enumerate(values):
        for name, value in zip(names, row, strict=True):
            if type(value) in _NUMBERS and not _finite(value):
                raise _refuse(f"Feature {name!r} of row {place} is {_shown(value)}, not a finite number.", name)
    if all(_NUMBERS.issuperset(map(type, row)) for row in values):
        return Rows(Shape.of_floats(names), len(rows), np.array(values, dtype=np.float64).tobytes())
    numeric = [_only_numbers(column) for column in zip(*values, strict=True)]
    shape = Shape(names, tuple(DOUBLE if numbers else OBJECT for numbers in numeric))
    return Rows(shape, len(rows), _packed_floats(values) if shape.packed else b"", values)


def _only_numbers(column: Sequence[Any]) -> bool:
    kinds = set(map(type, column)) - {type(None)}
    return bool(kinds) and kinds <= _NUMBERS


def _packed_floats(values: list[list[Any]]) -> bytes:
    return np.array([[math.nan if value is None else value for value in row] for row in values]).tobytes()


def _loose_row(row: Any, place: int, names: tuple[str, ...], known: frozenset[str]) -> list[Any]:
    if isinstance(row, Mapping):
        missing = next((name for name in names if name not in row), None)
        _check_names(missing, next((name for name in row if name not in known), None), names, row, place)
        return [row[name] for name in names]
    values = [row] if isinstance(row, str | int | float) else list(row or ())
    if len(values) != len(names):
        raise _refuse(f"Row {place} has {len(values)} values; {len(names)} are expected.", None)
    return values


def _check_names(
    missing: str | None,
    unknown: Any,
    known: tuple[str, ...],
    given: Collection[Any],
    place: int | None = None,
) -> None:
    """
    Refuse features that are missing or unknown; a misspelt name is both, and is told with the name that was meant.

    Args:
        missing: The first feature that was not sent.
        unknown: The first sent name that is not a feature.
        known: The names of all features.
        given: The names that were sent.
    """
    if missing is None and unknown is None:
        return
    of, where = ("", "") if place is None else (f" of row {place}", f" in row {place}")
    if unknown is None:
        raise _refuse(f"Feature {missing!r} is missing{where}.", missing)
    first = str(unknown)
    free = list(islice((name for name in known if name not in given), _COMPARED))
    meant = next(iter(get_close_matches(first[:_COMPARED], free, n=1)), None)
    hint = "" if meant is None else f"; did you mean {meant!r}?"
    if missing is None:
        raise _refuse(f"Feature {first!r}{of} is unknown{hint or '.'}", first, known=known)
    lacks = f"Feature {meant or missing!r} is missing{where}"
    raise _refuse(f"{lacks}, and {first!r} is unknown{hint or '.'}", meant or missing, known=known)


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."  # noqa: PLR2004 - enough to recognise it by


def _refuse(message: str, feature: str | None, *, known: tuple[str, ...] = ()) -> InvalidRequest:
    remedy = f"The model takes {', '.join(known[:20])}{', ...' if len(known) > 20 else ''}." if known else ""  # noqa: PLR2004 - a readable list
    return InvalidRequest(message, feature=feature, remedy=remedy)
