"""Log predictions that a program outside Mendel made."""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import numpy as np

from mendel.errors import InvalidRequest
from mendel.predictions import PredictionBlock, mint_ids, pack_ids
from mendel.serving.loaded_version import LoadedVersion
from mendel.serving.plain_json import event_time_of, parse_plain
from mendel.serving.prediction_records import class_names, prediction_column
from mendel.serving.row_batches import assemble
from mendel.values import to_micros

_LARGEST = 2**64 - 1


def external_prediction_block(
    document: Any, version: LoadedVersion, *, now: datetime, rng: random.Random
) -> PredictionBlock:
    """
    Build the log block for the body ``{"records": [...], "predictions": [...]}`` of a request.

    The body has one prediction per record. Optional fields are ``prediction_ids`` (UUIDs; new ids are made without the
    field), ``probabilities`` and ``event_time``.

    Raises:
        InvalidRequest: A required field is missing, or a list does not have one value per record.
        InvalidInput: The records do not fit the version's signature, or an id is not a UUID.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("predictions"), list):
        raise InvalidRequest("The body needs the fields 'records' and 'predictions', with one prediction per record.")
    frame = assemble([version.artifact.codec.decode(parse_plain(document).input)])
    rows = len(frame)
    ids = _column(document, "prediction_ids", rows)
    probabilities = _column(document, "probabilities", rows)
    event = event_time_of(document.get("event_time"))
    micros = to_micros(now)
    matrix = None if probabilities is None else _matrix(probabilities)
    return PredictionBlock(
        model=version.ref.model,
        version=version.ref.number,
        uuid=version.served.uuid,
        generation=version.generation,
        prediction_ids=mint_ids(rows, micros=micros, randbytes=rng.randbytes) if ids is None else _packed(ids),
        timestamp_micros=micros,
        door="log",
        feature_names=frame.shape.names,
        features=frame.logged,
        predictions=prediction_column(_answers(_column(document, "predictions", rows) or [])),
        latency_ms=0.0,
        release_tag=version.served.release_tag,
        fingerprint=version.served.training_fingerprint,
        probabilities=matrix,
        classes=() if matrix is None else class_names(version.artifact.descriptor.classes or (), matrix.shape[1]),
        event_micros=None if event is None else (to_micros(event),) * rows,
    )


def _column(document: Mapping[str, Any], name: str, rows: int) -> list[Any] | None:
    values = document.get(name)
    if values is None:
        return None
    if not isinstance(values, list) or len(values) != rows:
        raise InvalidRequest(f"'{name}' must be a list with one value for each of the {rows} records.")
    return values


def _packed(ids: list[Any]) -> bytes:
    if not all(isinstance(text, str) for text in ids):
        raise InvalidRequest("'prediction_ids' must be a list with one text per record.")
    return pack_ids(ids)


def _answers(values: list[Any]) -> list[Any]:
    """Raise InvalidRequest if a prediction is a whole number beyond 64 bits, which the prediction log cannot store."""
    if any(type(value) is int and abs(value) > _LARGEST for value in values):
        raise InvalidRequest("'predictions' contains a whole number that does not fit in 64 bits.")
    return values


def _matrix(rows: list[Any]) -> Any:
    numbers = {int, float}
    if not all(isinstance(row, list) and numbers.issuperset(map(type, row)) for row in rows):
        raise InvalidRequest("'probabilities' must be a list with one list of numbers per record.")
    try:
        matrix = np.array(rows, dtype=np.float64)
    except (ValueError, OverflowError) as error:
        raise InvalidRequest("The lists of 'probabilities' must have the same length and contain numbers.") from error
    if matrix.ndim != 2:  # noqa: PLR2004 - rows by classes
        raise InvalidRequest("'probabilities' must be a list with one list of numbers per record.")
    return matrix
