"""Read rows from CSV, which MLflow's scoring clients send."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Final

from mendel.errors import InvalidRequest, TooLarge
from mendel.serving.entities import Matrix
from mendel.serving.request_size import check_csv_size
from mendel.values import ColumnType, Signature

_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,40}", re.ASCII)
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,4})?", re.ASCII)
_LONGEST_NUMBER: Final = 400
_TRUTHS: Final[Mapping[str, Any]] = {"true": True, "false": False, "1": True, "0": False}
_NULLS: Final = frozenset({"", "nan"})


def parse_csv(body: bytes, signature: Signature | None, *, max_rows: int) -> Matrix:
    """
    Read a CSV body with a header line; cells are converted to the column types of the signature, empty cells are null.

    Without a signature, a cell that looks like a number becomes a number, and any other cell becomes text.

    Raises:
        InvalidRequest: The body is not CSV in UTF-8, names a column twice, or a row has another number of cells.
        TooLarge: The body has more than *max_rows* rows, or more than ten million cells.
    """
    check_csv_size(body)
    try:
        found = filter(None, csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True))
        lines = list(islice(found, max_rows + 2))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidRequest(f"The body is not CSV in UTF-8: {error}.") from error
    if not lines:
        raise InvalidRequest("The CSV has no header line.")
    header, *rows = lines
    if len(rows) > max_rows:
        raise TooLarge(
            f"The CSV has more rows than {max_rows}, which are allowed.", remedy="Send fewer rows per request."
        )
    if len(set(header)) != len(header):
        raise InvalidRequest("The CSV names a column twice.")
    types = {} if signature is None else {column.name: column.type for column in signature.inputs}
    readers = [_reader(types.get(name)) for name in header]
    for place, row in enumerate(rows):
        if len(row) != len(header):
            raise InvalidRequest(f"Row {place} of the CSV has {len(row)} cells, its header line {len(header)}.")
    values = [[read(cell) for read, cell in zip(readers, row, strict=True)] for row in rows]
    return Matrix(rows=values, columns=tuple(header))


def _reader(kind: ColumnType | None) -> Callable[[str], Any]:
    if kind is None or kind.numeric:
        return _number
    return _truth if kind is ColumnType.BOOLEAN else _text


def _number(cell: str) -> Any:
    text = cell.strip()
    if text.lower() in _NULLS:
        return None
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if len(text) <= _LONGEST_NUMBER and _NUMBER.fullmatch(text) else cell


def _truth(cell: str) -> Any:
    text = cell.strip().lower()
    return None if text in _NULLS else _TRUTHS.get(text, cell)


def _text(cell: str) -> str | None:
    return cell or None
