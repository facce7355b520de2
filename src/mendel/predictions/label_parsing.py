"""Parse the labels in a request body: JSON, NDJSON or CSV."""

from __future__ import annotations

import codecs
import csv
import io
import reprlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from mendel.errors import InvalidInput, InvalidValue, MendelError
from mendel.predictions.entities import LabelRow
from mendel.values import check_text, read_json, require_utc

_KEYS = frozenset({"prediction_id", "true_label", "label_source", "label_timestamp"})
_DEFAULT_SOURCE = "api"


def parse_labels(body: bytes, *, content_type: str, received_at: datetime) -> tuple[LabelRow, ...]:
    """
    Parse one or more labels.

    JSON is one object, a list of objects, or ``{"labels": [...]}``; NDJSON has one object per line; CSV has a header
    line. The keys are ``prediction_id``, ``true_label``, ``label_source`` and ``label_timestamp``.

    Raises:
        InvalidInput: The body is not in the format of its content type, or a label lacks its id or outcome; the message
            names the first wrong label.
    """
    kind = content_type.split(";", maxsplit=1)[0].strip().lower()
    read = {"application/x-ndjson": _ndjson, "application/jsonl": _ndjson, "text/csv": _csv}.get(kind, _json)
    rows = tuple(_label(row, place, received_at) for place, row in enumerate(read(body), 1))
    if not rows:
        raise InvalidInput("The request body has no label.", remedy="Send at least one label.")
    return rows


def _json(body: bytes) -> Iterator[Any]:
    document = _decoded(body.removeprefix(codecs.BOM_UTF8))
    if isinstance(document, dict) and "labels" in document:
        document = document["labels"]
    yield from document if isinstance(document, list) else [document]


def _ndjson(body: bytes) -> Iterator[Any]:
    return (_decoded(line) for line in body.removeprefix(codecs.BOM_UTF8).splitlines() if line.strip())


def _csv(body: bytes) -> Iterator[Any]:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"The CSV text of the labels is not UTF-8: {error}.") from error
    try:
        for place, row in enumerate(csv.DictReader(io.StringIO(text)), 1):
            if None in row:
                raise InvalidInput(f"Label {place} has more cells than the header line.")
            yield {key: _cell(key, value) for key, value in row.items() if value not in (None, "")}
    except csv.Error as error:
        raise InvalidInput(
            f"The CSV text of the labels is invalid: {error}.", remedy="Check that every quotation mark is closed."
        ) from error


def _cell(key: str, text: str) -> object:
    """Convert an outcome in a CSV to a number or boolean if JSON would read it so; other cells stay text."""
    if key != "true_label":
        return check_text(text)
    try:
        value = read_json(text)
    except InvalidValue:
        return check_text(text)
    return value if isinstance(value, bool | int | float) else text


def _decoded(text: bytes) -> Any:
    try:
        return read_json(text)
    except InvalidValue as error:
        raise InvalidInput(
            f"The labels cannot be read: {error}", remedy="To send CSV, set the header Content-Type: text/csv."
        ) from error


def _label(row: Any, place: int, received_at: datetime) -> LabelRow:
    if not isinstance(row, Mapping):
        raise InvalidInput(f"Label {place} is not a JSON object.")
    if unknown := sorted(str(key) for key in row if key not in _KEYS):
        raise InvalidInput(
            f"Label {place} has the unknown key {reprlib.repr(unknown[0])}.",
            remedy=f"Use the keys {', '.join(sorted(_KEYS))}.",
        )
    prediction_id, outcome = row.get("prediction_id"), row.get("true_label")
    if not isinstance(prediction_id, str) or not prediction_id:
        raise InvalidInput(f"Label {place} has no prediction_id.")
    if not isinstance(outcome, str | int | float | bool):
        raise InvalidInput(f"Label {place} ({reprlib.repr(prediction_id)}) has no true_label.")
    return LabelRow(
        prediction_id=prediction_id,
        true_label=outcome,
        label_source=_source(row.get("label_source"), place),
        received_at=received_at,
        label_timestamp=_moment(row.get("label_timestamp"), place),
    )


def _source(value: object, place: int) -> str:
    if value is None or value == "":
        return _DEFAULT_SOURCE
    if not isinstance(value, str):
        raise InvalidInput(f"Label {place}: label_source is not text.")
    return value


def _moment(value: object, place: int) -> datetime | None:
    if value is None:
        return None
    try:
        return require_utc(datetime.fromisoformat(value))  # type: ignore[arg-type]
    except (TypeError, ValueError, MendelError) as error:
        raise InvalidInput(
            f"Label {place}: label_timestamp {reprlib.repr(value)} is not a time with a time zone.",
            remedy="Write RFC 3339, for example 2026-01-31T12:00:00Z.",
        ) from error
