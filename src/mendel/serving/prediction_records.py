"""Build the block that the prediction log stores for a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from mendel.predictions import PredictionBlock
from mendel.serving.prediction_outputs import flat_classes
from mendel.serving.predictor import Outputs
from mendel.serving.row_batches import Frame, objects
from mendel.values import ModelName, ServedVersion
from mendel.values.table import is_exact


class RequestOrigin(msgspec.Struct, frozen=True, kw_only=True):
    """
    The part of a log block that all rows of one request share.

    ``count`` is the number of rows; ``latency_ms`` is the time from the arrival of the request to its prediction.
    """

    count: int
    door: str
    correlation_id: str
    event_micros: int | None
    latency_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutedBatch:
    """
    A batch after its model call: the rows, and either ``outputs`` or ``error``; the other is None.

    ``ood`` marks the rows outside the training data, None without a drift reference. ``ids`` are the prediction ids.
    """

    frame: Frame
    outputs: Outputs | None
    error: str | None
    ood: NDArray[np.bool_] | None
    ids: bytes
    micros: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedVersion:
    """
    The model version that the log records for a prediction.

    ``image_digest`` is the digest of the image registered for the version, else of the server's image; None without
    images.
    """

    model: ModelName
    served: ServedVersion
    generation: int
    image_digest: str | None = None
    classes: tuple[str, ...]
    shadow: bool = False


def block_of(whose: RecordedVersion, origins: Sequence[RequestOrigin], executed: ExecutedBatch) -> PredictionBlock:
    """Build the log block of one batch; the rows of the requests *origins* follow each other in order."""
    served, outputs, rows = whose.served, executed.outputs, len(executed.frame)
    probabilities = None if outputs is None else outputs.matrix
    return PredictionBlock(
        model=whose.model,
        version=served.number,
        uuid=served.uuid,
        generation=whose.generation,
        prediction_ids=executed.ids,
        timestamp_micros=executed.micros,
        door=_each(origins, [origin.door for origin in origins]),
        feature_names=executed.frame.shape.names,
        features=executed.frame.logged,
        predictions=None if outputs is None else prediction_column(_for_each(outputs.predictions, rows)),
        latency_ms=_latencies(origins),
        release_tag=served.release_tag,
        image_digest=whose.image_digest,
        fingerprint=served.training_fingerprint,
        correlation_ids=_each(origins, [origin.correlation_id or None for origin in origins]),
        probabilities=probabilities,
        classes=() if probabilities is None else class_names(whose.classes, probabilities.shape[1]),
        event_micros=_event_micros(origins),
        ood=executed.ood,
        errors=None if executed.error is None else (executed.error,) * rows,
        shadow=whose.shadow,
    )


def class_names(classes: Sequence[Any], width: int) -> tuple[str, ...]:
    """Give the text of each class; if the predictor lists no classes, the position of each class."""
    names = flat_classes(tuple(classes))
    return names if len(names) == width else tuple(map(str, range(width)))


def prediction_column(values: Sequence[Any]) -> NDArray[Any]:
    """
    Convert predictions to a column of the prediction log.

    The column is ``float64`` when all values are numbers, else ``object``; lists and dicts become JSON text.
    """
    if all(type(value) in {int, float} and is_exact(value) for value in values):
        return np.array(values, dtype=np.float64)
    return objects([_scalar(value) for value in values])


def _for_each(answers: list[Any], rows: int) -> list[Any]:
    """Give one answer per row; answers of another number (api.response_validation false) are repeated for every row."""
    return answers if len(answers) == rows else [answers] * rows


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return msgspec.json.encode(value).decode()


def _each(origins: Sequence[RequestOrigin], values: list[Any]) -> Any:
    if len(set(values)) == 1:
        return values[0]
    return tuple(value for origin, value in zip(origins, values, strict=True) for _ in range(origin.count))


def _latencies(origins: Sequence[RequestOrigin]) -> float | NDArray[np.float64]:
    if len(origins) == 1:
        return origins[0].latency_ms
    return np.repeat([origin.latency_ms for origin in origins], [origin.count for origin in origins])


def _event_micros(origins: Sequence[RequestOrigin]) -> tuple[int | None, ...] | None:
    if all(origin.event_micros is None for origin in origins):
        return None
    return tuple(origin.event_micros for origin in origins for _ in range(origin.count))
