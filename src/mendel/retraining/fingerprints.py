"""Recognise a dataset by its content, independent of the file format."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendel.values import Digest, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFingerprint:
    """
    The digest and the counts of a dataset.

    ``missing`` counts cells without a value; ``duplicates`` counts rows that repeat an earlier row.
    """

    digest: Digest
    rows: int
    columns: int
    missing: int
    duplicates: int


def fingerprint(table: Table) -> DatasetFingerprint:
    """
    Hash the schema, the columns sorted by name, and the rows sorted by content, with SHA-256.

    The order of rows and columns, chunking and number formats do not change the hash: whole numbers equal floats, None
    equals NaN, and 0.0 equals -0.0. A text never equals a number or a boolean.

    >>> one = Table({"a": np.array([1.0, 2.0]), "b": np.array(["x", None], dtype=object)})
    >>> other = Table({"b": np.array([None, "x"], dtype=object), "a": np.array([2, 1])})
    >>> fingerprint(one) == fingerprint(other)
    True
    """
    columns = [(name, *_canonical(table[name])) for name in sorted(table.names)]
    order = np.lexsort([ranks for _, _, _, ranks in columns]) if columns and len(table) else np.arange(len(table))
    whole = hashlib.sha256(f"{len(table)}\n".encode())
    repeated = np.ones(max(0, len(table) - 1), dtype=bool)
    missing = 0
    for name, kind, values, ranks in columns:
        ordered = ranks[order]
        repeated &= ordered[1:] == ordered[:-1]
        content, absent = _bytes(values, order)
        missing += absent
        whole.update(f"{name!r} {kind} {len(content)}\n".encode())
        whole.update(content)
    return DatasetFingerprint(
        digest=Digest(f"sha256:{whole.hexdigest()}"),
        rows=len(table),
        columns=len(columns),
        missing=missing,
        duplicates=int(repeated.sum()) if columns else 0,
    )


def _canonical(column: NDArray[Any]) -> tuple[str, NDArray[Any], NDArray[Any]]:
    """Give a column's kind, its values in canonical form, and ranks for sorting rows by them."""
    numbers = _as_numbers(column)
    if numbers is not None:
        return "number", numbers, numbers
    if column.dtype.kind == "b" or all(isinstance(value, bool | np.bool_) for value in column.tolist()):
        truth = column.astype(bool)
        return "truth", truth, truth
    texts = np.array([_text(value) for value in column.tolist()], dtype=object)
    _, ranks = np.unique(texts.astype(str), return_inverse=True)
    return "text", texts, ranks


def _as_numbers(column: NDArray[Any]) -> NDArray[np.float64] | None:
    if column.dtype.kind in "iuf":
        return column.astype(np.float64) + 0.0
    if column.dtype.kind == "b":
        return None
    values = column.tolist()
    if not all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values):
        return None
    return np.array([np.nan if value is None else float(value) for value in values]) + 0.0


def _text(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return f"truth {value}"
        case int() | float():
            return "-" if value != value else f"number {float(value) + 0.0!r}"  # noqa: PLR0124 - NaN is missing
        case _:
            return f"text {value}"


def _bytes(values: NDArray[Any], order: NDArray[np.intp]) -> tuple[bytes, int]:
    ordered = values[order]
    if ordered.dtype.kind == "f":
        absent = np.isnan(ordered)
        return np.where(absent, np.nan, ordered).astype("<f8").tobytes(), int(absent.sum())
    if ordered.dtype.kind == "b":
        return ordered.tobytes(), 0
    texts = ordered.tolist()
    return b"".join(f"{len(text)} {text}".encode("utf-8", "surrogatepass") for text in texts), texts.count("-")
