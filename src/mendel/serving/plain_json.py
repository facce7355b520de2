"""
The plain JSON format of requests and answers, which REST, gRPC's ``ModelOps`` and ZMQ share.

    {"payload": {"records": [{...}]}}   the key is one of records, instances, ndarray, inputs, dataframe_records and
                                        dataframe_split, inside "payload" or without "payload"
    [{...}, {...}]                      a list of records
    {"age": 31, "city": "Ulm"}          one record, answered by one flat object
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec
import orjson

from mendel.errors import InvalidRequest, MendelError
from mendel.serving.entities import InferenceAnswer, Input, Matrix, Records
from mendel.values import require_utc

_LISTS = ("records", "instances", "ndarray", "inputs", "dataframe_records")
_OBJECTS = frozenset({"records", "dataframe_records"})
_BINARY = 2
_SHOWN = reprlib.Repr()
_SHOWN.maxlevel, _SHOWN.maxlist, _SHOWN.maxdict, _SHOWN.maxstring = 2, 3, 3, 50


class PlainRequest(msgspec.Struct, frozen=True, kw_only=True):
    """
    A decoded request in plain JSON.

    Attributes:
        single: True when the body was one record, so that the answer is one flat object.
        key: The field ``key``: requests with the same key go to the same version; None without the field.
        event_time: The field ``event_time``; None without the field.
    """

    input: Input
    single: bool = False
    key: str | None = None
    event_time: datetime | None = None


def parse_plain(document: Any) -> PlainRequest:
    """
    Convert a decoded JSON body to a request.

    Raises:
        InvalidRequest: The body contains no rows.
    """
    if isinstance(document, list):
        return PlainRequest(input=_rows(document))
    if not isinstance(document, dict) or not document:
        raise InvalidRequest(
            "The body contains no rows.", remedy='Send {"records": [{...}]} or one object of features.'
        )
    inside = document.get("payload")
    place = inside if isinstance(inside, dict) else document
    found = _found(place)
    if found is None:
        if inside is not None and not isinstance(inside, dict | str | int | float | bool):
            return PlainRequest(input=_rows(inside))
        return PlainRequest(input=Records(rows=[place]), single=True)
    return PlainRequest(input=found, key=_key(document), event_time=event_time_of(document.get("event_time")))


def plain_body(answer: InferenceAnswer, *, proba: bool, single: bool) -> bytes:
    """Encode the JSON body of *answer*, with the arguments of :func:`plain_answer`."""
    body = plain_answer(answer, proba=proba, single=single)
    if isinstance(body, dict) and body.get("metadata") is answer.metadata.document:
        body["metadata"] = answer.metadata.json  # encoded once for the version
    return orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS)


def plain_answer(answer: InferenceAnswer, *, proba: bool, single: bool) -> Any:
    """
    Build the JSON body of *answer*.

    Args:
        proba: True for ``predict_proba``: the body has probabilities and classes instead of predictions.
        single: True when the request was one record: the body has the keys ``prediction`` and ``probability``.
    """
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
    Parse the time of the predicted event from RFC 3339; None gives None.

    Raises:
        InvalidRequest: The text is not a time, or has no time zone.
    """
    if text is None:
        return None
    try:
        return require_utc(datetime.fromisoformat(text))
    except (TypeError, ValueError, MendelError) as error:
        raise InvalidRequest(
            f"event_time {shown(text)} is not a time with a time zone.",
            remedy="Write the time in RFC 3339 with a time zone, for example 2026-01-31T12:00:00Z.",
        ) from error


def key_of(value: Any) -> str | None:
    """
    Read the key of a request: requests with the same key go to the same version of a canary.

    Raises:
        InvalidRequest: The key is neither text nor a number.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return str(value)
    raise InvalidRequest("'key' must be text or a number.")


def model_name_of(value: Any) -> str | None:
    """
    Check that the name of a model in a request is text.

    Raises:
        InvalidRequest: The name is not text.
    """
    if value is None or isinstance(value, str):
        return value
    raise InvalidRequest(f"The name of the model is {shown(value)}, not text.")


def shown(value: Any) -> str:
    """Give the beginning of ``repr(value)``, for an error message to the caller who sent the value."""
    return _SHOWN.repr(value)


def _found(place: Mapping[str, Any]) -> Input | None:
    for name in _LISTS:
        value = place.get(name)
        if isinstance(value, list):
            if name in _OBJECTS:
                _require_rows(name, value)
            return _rows(value)
        if name == "inputs" and isinstance(value, dict):
            return _columns(value)
    split = place.get("dataframe_split")
    if isinstance(split, dict):
        return _split(split)
    return None


def _require_rows(name: str, values: list[Any]) -> None:
    """Refuse a list of records with a bare value, which would otherwise be read as one row of values."""
    for place, row in enumerate(values):
        if not isinstance(row, dict | list):
            raise InvalidRequest(
                f"Row {place} in {name!r} is {shown(row)}, not an object of features.",
                remedy='Send {"records": [{"feature": value}]}, or lists of values in "ndarray".',
            )


def _rows(values: list[Any]) -> Input:
    if values and all(isinstance(row, dict) for row in values):
        return Records(rows=values)
    if values and not any(isinstance(row, list | dict) for row in values):
        return Matrix(rows=[values])
    return Matrix(rows=values)


def _columns(columns: Mapping[str, Any]) -> Input:
    values = [column if isinstance(column, list) else [column] for column in columns.values()]
    if len({len(column) for column in values}) > 1:
        raise InvalidRequest("The columns in 'inputs' have different lengths.")
    return Matrix(rows=list(map(list, zip(*values, strict=True))), columns=tuple(columns))


def _split(split: Mapping[str, Any]) -> Input:
    columns, rows = split.get("columns"), split.get("data")
    if not isinstance(rows, list) or not (columns is None or isinstance(columns, list)):
        raise InvalidRequest("'dataframe_split' needs the keys 'columns' and 'data', each with a list.")
    if columns is not None and not all(isinstance(name, str | int) for name in columns):
        raise InvalidRequest("The 'columns' of 'dataframe_split' must be text.")
    return Matrix(rows=rows, columns=None if columns is None else tuple(map(str, columns)))


def _key(document: Mapping[str, Any]) -> str | None:
    return key_of(document.get("key"))


def _flat_answer(answer: InferenceAnswer) -> dict[str, Any]:
    answers = answer.predictions  # may have another length than 1 when api.response_validation is false
    body: dict[str, Any] = {"prediction": answers[0] if len(answers) == 1 else answers}
    if answer.probabilities is not None:
        row: list[Any] = answer.probabilities[0]
        several = bool(row) and all(isinstance(output, list) for output in row)
        body["probability"] = [_one_probability(output) for output in row] if several else _one_probability(row)
    body["model_version"] = answer.metadata.label
    body["prediction_id"] = None if answer.prediction_ids is None else answer.prediction_ids[0]
    body["timestamp"] = answer.at.isoformat()
    return body | _remarks(answer)


def _one_probability(row: list[Any]) -> Any:
    """The probability of the second of two classes, or of the most probable of several classes."""
    return row[1] if len(row) == _BINARY else max((p for p in row if p is not None), default=None)


def _remarks(answer: InferenceAnswer) -> dict[str, Any]:
    remarks: dict[str, Any] = {} if answer.logged else {"logged": False}
    return remarks | {"fallback": True} if answer.fallback else remarks


def _classes(answer: InferenceAnswer) -> list[Any]:
    width = len((answer.probabilities or [[]])[0])
    return list(answer.metadata.classes or range(width))
