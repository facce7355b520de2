"""
The plain JSON that people type: one dialect for REST, ModelOps' prompt and ZMQ.

    {"payload": {"records": [{...}]}}   or records, instances, ndarray, inputs, dataframe_records, dataframe_split,
                                        in payload or at the top
    [{...}, {...}]                      the records alone
    {"age": 31, "city": "Ulm"}          one flat object of features, answered by one flat object
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

from mendel.errors import InvalidRequest, MendelError
from mendel.serving.entities import InferenceAnswer, Input, Matrix, Records
from mendel.values import require_utc

_LISTS = ("records", "instances", "ndarray", "inputs", "dataframe_records")
_BINARY = 2
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True, kw_only=True)
class PlainRequest:
    """
    A body as it was meant.

    Attributes:
        single: It was one flat object, and wants one flat answer.
        key: What makes the choice of a route sticky, from the field ``key`` beside the rows.
        event_time: From the field ``event_time`` beside the rows.
    """

    input: Input
    single: bool = False
    key: str | None = None
    event_time: datetime | None = None


def read_json(body: bytes | str) -> Any:
    """
    Any JSON; NaN and infinities are none.

    Raises:
        InvalidRequest: It is not JSON; see :func:`malformed`.
    """
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(body, error) from error


def malformed(body: bytes | str, error: Exception) -> InvalidRequest:
    """
    What to say of a *body* that raised *error*: a NaN or an infinity, which many clients write, by its feature's name.

    >>> print(malformed('{"records": [{"age": NaN}]}', ValueError("invalid character")))
    Feature 'age' is nan, not a finite number.
    """
    try:
        odd = next((place for place in _numbers(json.loads(body), None) if not math.isfinite(place[1])), None)
    except (ValueError, RecursionError):
        odd = None
    if odd is None:
        return InvalidRequest(f"The body is not JSON: {error}.")
    feature, number = odd
    where = "A value" if feature is None else f"Feature {feature!r}"
    return InvalidRequest(f"{where} is {number}, not a finite number.", feature=feature)


def _numbers(node: Any, feature: str | None) -> Iterator[tuple[str | None, float]]:
    """Every float below *node*, with the nearest key of an object above it."""
    if isinstance(node, float):
        yield feature, node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _numbers(value, key)
    elif isinstance(node, list):
        for value in node:
            yield from _numbers(value, feature)


def parse_plain(document: Any) -> PlainRequest:
    """
    What a decoded body asks.

    Raises:
        InvalidRequest: It holds no rows.
    """
    if isinstance(document, list):
        return PlainRequest(input=_rows(document))
    if not isinstance(document, dict) or not document:
        raise InvalidRequest("The body holds no rows.", remedy='Send {"records": [{...}]} or one object of features.')
    inside = document.get("payload")
    place = inside if isinstance(inside, dict) else document
    found = _found(place)
    if found is None:
        if inside is not None and not isinstance(inside, dict | str | int | float | bool):
            return PlainRequest(input=_rows(inside))
        return PlainRequest(input=Records(rows=[place]), single=True)
    return PlainRequest(input=found, key=_key(document), event_time=event_time_of(document.get("event_time")))


def plain_answer(answer: InferenceAnswer, *, proba: bool, single: bool) -> Any:
    """The body of *answer*: the predictor's own where its project says so; flat for a flat request; else per row."""
    own = answer.proba_body if proba else answer.body
    if own is not None:
        return own.content
    if single and not proba:
        return _flat_answer(answer)
    body: dict[str, Any]
    if proba:
        body = {"probabilities": answer.probabilities, "classes": _classes(answer)}
    else:
        body = {"predictions": answer.predictions}
        if answer.probabilities is not None:
            body["probabilities"] = answer.probabilities
    body["prediction_ids"] = answer.prediction_ids
    body["time_ms"] = round(answer.took.total_seconds() * 1000, 3)
    body["metadata"] = answer.metadata.document
    return body | _remarks(answer)


def event_time_of(text: Any) -> datetime | None:
    """
    When the predicted thing happened, as RFC 3339.

    Raises:
        InvalidRequest: It is no time, or has no zone.
    """
    if text is None:
        return None
    try:
        return require_utc(datetime.fromisoformat(text))
    except (TypeError, ValueError, MendelError) as error:
        raise InvalidRequest(
            f"event_time {text!r} is not a time: {error}", remedy="Write RFC 3339 with a zone."
        ) from error


def _found(place: Mapping[str, Any]) -> Input | None:
    for name in _LISTS:
        value = place.get(name)
        if isinstance(value, list):
            return _rows(value)
        if name == "inputs" and isinstance(value, dict):
            return _columns(value)
    split = place.get("dataframe_split")
    if isinstance(split, dict):
        return _split(split)
    return None


def _rows(values: list[Any]) -> Input:
    if values and all(isinstance(row, dict) for row in values):
        return Records(rows=values)
    if values and not any(isinstance(row, list | dict) for row in values):
        return Matrix(rows=[values])
    return Matrix(rows=values)


def _columns(columns: Mapping[str, Any]) -> Input:
    values = [column if isinstance(column, list) else [column] for column in columns.values()]
    if len({len(column) for column in values}) > 1:
        raise InvalidRequest("The columns of inputs have different lengths.")
    return Matrix(rows=list(map(list, zip(*values, strict=True))), columns=tuple(columns))


def _split(split: Mapping[str, Any]) -> Input:
    columns, rows = split.get("columns"), split.get("data")
    if not isinstance(rows, list) or not (columns is None or isinstance(columns, list)):
        raise InvalidRequest("dataframe_split needs columns and data.")
    return Matrix(rows=rows, columns=None if columns is None else tuple(map(str, columns)))


def _key(document: Mapping[str, Any]) -> str | None:
    key = document.get("key")
    return None if key is None else str(key)


def _flat_answer(answer: InferenceAnswer) -> dict[str, Any]:
    answers = answer.predictions  # not one for the row only where a project lets its predictor answer as it likes
    body: dict[str, Any] = {"prediction": answers[0] if len(answers) == 1 else answers}
    if answer.probabilities is not None:
        row = answer.probabilities[0]
        body["probability"] = row[1] if len(row) == _BINARY else max((p for p in row if p is not None), default=None)
    body["model_version"] = answer.metadata.label
    body["prediction_id"] = None if answer.prediction_ids is None else answer.prediction_ids[0]
    body["timestamp"] = answer.at.isoformat()
    return body | _remarks(answer)


def _remarks(answer: InferenceAnswer) -> dict[str, Any]:
    remarks: dict[str, Any] = {} if answer.logged else {"logged": False}
    return remarks | {"fallback": True} if answer.fallback else remarks


def _classes(answer: InferenceAnswer) -> list[Any]:
    width = len((answer.probabilities or [[]])[0])
    return list(answer.metadata.classes or range(width))
