"""Check the rows of a request against the model's signature; errors name the first invalid feature."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from mendel.errors import InvalidRequest, TooLarge
from mendel.serving.entities import Input, Matrix, Records, Tensors
from mendel.serving.row_batches import Frame, Rows, Shape, assemble
from mendel.serving.tensors import matrix_of
from mendel.values import ColumnSpec, ColumnType, Signature, Table

RECORDS, LISTS = "objects of features", "lists of values"
_NUMBERS = frozenset({int, float})
_WANTED = {
    ColumnType.BOOLEAN: "true or false",
    ColumnType.INTEGER: "a whole number",
    ColumnType.LONG: "a whole number",
    ColumnType.FLOAT: "a number",
    ColumnType.DOUBLE: "a number",
    ColumnType.STRING: "text",
    ColumnType.DATETIME: "a time",
}


class InputCodec:
    """
    Decodes the requests for one model version.

    Without a signature, the codec takes the columns of the request and checks only that all rows have the same columns.

    Args:
        signature: The signature of the version; None when the version has none.
        order: The order of the features when there is no signature (``api.feature_order``); None when unknown.
        max_rows: The largest number of rows in one request.
        forms: The accepted forms of rows when neither the signature nor *order* names the features: ``RECORDS``,
            ``LISTS`` or both. A model that takes arrays cannot order the features of a record; a model that takes named
            features cannot name the values of a list.
    """

    def __init__(
        self,
        signature: Signature | None,
        *,
        order: tuple[str, ...] | None,
        max_rows: int,
        forms: frozenset[str] = frozenset({RECORDS, LISTS}),
    ) -> None:
        self._max_rows = max_rows
        self._forms = forms
        self._columns = _Columns(signature.inputs) if signature and signature.inputs else None
        self._order = order

    def decode(self, given: Input) -> Rows:
        """
        Check the input *given* and convert it to rows.

        Raises:
            InvalidRequest: A feature is missing, unknown, of the wrong type or not finite; or the input has no rows.
            TooLarge: The input has more than ``max_rows`` rows.
        """
        names, rows = self._named(given)
        if len(rows) > self._max_rows:
            raise TooLarge(
                f"The request has {len(rows)} rows; at most {self._max_rows} are allowed.",
                remedy="Send fewer rows per request.",
            )
        if not len(rows):
            raise InvalidRequest("The request has no rows.", remedy="Send at least one row.")
        if self._columns is not None:
            return self._columns.decode(rows, names)
        if self._order is None:
            self._check_form(RECORDS if names is not None or isinstance(rows[0], Mapping) else LISTS)
        return _loose(rows, names, self._order)

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
            matrix = matrix_of(given, known)
            return matrix.columns, matrix.rows
        raise InvalidRequest("The request has no rows.", remedy="Send at least one row.")


def frame_of(table: Table, signature: Signature | None) -> Frame:
    """Convert *table* to the frame that a predictor takes, with the same checks as for a request."""
    names = signature.names if signature is not None and signature.inputs else table.names
    columns = [[None if value != value else value for value in table[name].tolist()] for name in names]  # noqa: PLR0124 - NaN is null
    codec = InputCodec(signature, order=names, max_rows=max(len(table), 1))
    return assemble([codec.decode(Matrix(rows=list(zip(*columns, strict=True)), columns=names))])


class _Columns:
    """Decodes rows for the input columns of a signature."""

    def __init__(self, specs: tuple[ColumnSpec, ...]) -> None:
        self.specs = specs
        self.names = tuple(spec.name for spec in specs)
        self.shape = Shape(
            self.names,
            all(spec.type.numeric or spec.type is ColumnType.BOOLEAN for spec in specs),
            tuple(spec.name for spec in specs if spec.type is ColumnType.BOOLEAN),
        )
        self._floats = all(spec.type in {ColumnType.DOUBLE, ColumnType.FLOAT} for spec in specs)
        self._pack = struct.Struct(f"{len(specs)}d").pack
        self._get: Callable[[Mapping[str, Any]], Any] = itemgetter(*self.names)

    def decode(self, rows: Any, names: tuple[str, ...] | None) -> Rows:
        if isinstance(rows, np.ndarray):
            return self._array(rows, names)
        order = None if names is None else self._places(names)
        if self.shape.numeric:
            return Rows(
                self.shape, len(rows), b"".join([self._packed(row, place, order) for place, row in enumerate(rows)])
            )
        return Rows(self.shape, len(rows), b"", [self._checked(row, place, order) for place, row in enumerate(rows)])

    def _packed(self, row: Any, place: int, order: tuple[int, ...] | None) -> bytes:
        if self._floats:
            try:
                values = self._quick(row, order)
                if _NUMBERS.issuperset(map(type, values)):
                    packed = self._pack(*values)
                    if math.isfinite(sum(values)):
                        return packed
            except (KeyError, TypeError, IndexError, struct.error, OverflowError):
                pass  # _checked below raises an error that names the invalid feature
        values = self._checked(row, place, order)
        try:
            return self._pack(*(math.nan if value is None else value for value in values))
        except OverflowError as error:
            raise InvalidRequest(f"A number in row {place} is too large.") from error

    def _quick(self, row: Any, order: tuple[int, ...] | None) -> Any:
        if isinstance(row, dict):
            if len(row) != len(self.names):
                raise KeyError
            values = self._get(row)
            return values if len(self.names) > 1 else (values,)
        return row if order is None else [row[place] for place in order]

    def _checked(self, row: Any, place: int, order: tuple[int, ...] | None) -> list[Any]:
        values = self._by_name(row, place) if isinstance(row, Mapping) else self._by_place(row, place, order)
        return [_fit(value, spec, place) for value, spec in zip(values, self.specs, strict=True)]

    def _by_name(self, row: Mapping[str, Any], place: int) -> list[Any]:
        for spec in self.specs:
            if spec.name not in row and spec.required:
                raise _refuse(f"Feature {spec.name!r} is missing in row {place}.", spec.name)
        for name in row:
            if name not in self.names:
                raise _refuse(f"Feature {name!r} of row {place} is unknown.", str(name), known=self.names)
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
        for name in names:
            if name not in self.names:
                raise _refuse(f"Feature {name!r} is unknown.", name, known=self.names)
        if len(set(names)) != len(names):
            raise _refuse("The request names a column twice.", None)
        for name in self.names:
            if name not in names:
                raise _refuse(f"Feature {name!r} is missing.", name)
        return tuple(names.index(name) for name in self.names)

    def _array(self, rows: np.ndarray[Any, Any], names: tuple[str, ...] | None) -> Rows:
        if not self.shape.numeric or rows.dtype.kind not in "fiub" or rows.ndim != 2:  # noqa: PLR2004 - rows by columns
            return self.decode(rows.tolist(), names)
        if rows.shape[1] != len(self.names):
            self._by_place(rows[0].tolist(), 0, None)
        ordered = rows if names is None else rows[:, self._places(names)]
        packed = np.ascontiguousarray(ordered, dtype=np.float64)
        if not self._floats or not np.isfinite(packed).all():
            return self.decode([[None if value != value else value for value in row] for row in ordered.tolist()], None)  # noqa: PLR0124 - NaN is null
        return Rows(self.shape, len(packed), packed.tobytes())


def _fit(value: Any, spec: ColumnSpec, place: int) -> Any:
    if value is None:
        if spec.required:
            raise _refuse(f"Feature {spec.name!r} of row {place} is null; it needs {_WANTED[spec.type]}.", spec.name)
        return None
    kind = type(value)
    if spec.type.numeric and kind in _NUMBERS:
        if not _finite(value):
            raise _refuse(f"Feature {spec.name!r} of row {place} is {value}, not a finite number.", spec.name)
        if spec.type in {ColumnType.DOUBLE, ColumnType.FLOAT} or value == int(value):
            return value
    elif spec.type is ColumnType.BOOLEAN:
        if kind is bool:
            return value
        if kind in _NUMBERS and value in {0, 1}:
            return bool(value)
    elif spec.type in {ColumnType.STRING, ColumnType.DATETIME} and kind is str:
        return value
    raise _refuse(f"Feature {spec.name!r} of row {place} is {_shown(value)}; it needs {_WANTED[spec.type]}.", spec.name)


def _loose(rows: Any, names: tuple[str, ...] | None, order: tuple[str, ...] | None) -> Rows:
    if isinstance(rows, np.ndarray):
        rows = rows.tolist()
    if names is None:
        names = order or (tuple(rows[0]) if isinstance(rows[0], Mapping) else None)
    if names is None:
        width = len(rows[0]) if isinstance(rows[0], Sequence) and not isinstance(rows[0], str) else 1
        names = tuple(f"x{place}" for place in range(width))
    if not names:
        raise InvalidRequest("The rows of the request have no values.")
    values = [_loose_row(row, place, names) for place, row in enumerate(rows)]
    numeric = all(_NUMBERS.issuperset(map(type, row)) for row in values)
    if not numeric:
        return Rows(Shape(names, numeric=False), len(rows), b"", values)
    for place, row in enumerate(values):
        for name, value in zip(names, row, strict=True):
            if not _finite(value):
                raise _refuse(f"Feature {name!r} of row {place} is {value}, not a finite number.", name)
    return Rows(Shape(names, numeric=True), len(rows), np.array(values, dtype=np.float64).tobytes())


def _loose_row(row: Any, place: int, names: tuple[str, ...]) -> list[Any]:
    if isinstance(row, Mapping):
        for name in names:
            if name not in row:
                raise _refuse(f"Feature {name!r} is missing in row {place}.", name)
        for name in row:
            if name not in names:
                raise _refuse(f"Feature {name!r} of row {place} is unknown.", str(name), known=names)
        return [row[name] for name in names]
    values = [row] if isinstance(row, str | int | float) else list(row or ())
    if len(values) != len(names):
        raise _refuse(f"Row {place} has {len(values)} values; {len(names)} are expected.", None)
    return values


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
