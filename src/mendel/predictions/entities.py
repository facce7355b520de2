"""The values of the prediction log: predictions, labels, segments and profiles."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from mendel.errors import InvalidValue, ShapeMismatch
from mendel.values import ModelName, Window

Scalar = str | int | float | bool | None
Column = NDArray[Any]
ID_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PredictionBlock:
    """
    One executed batch in columns, which the inference path passes to the spool.

    A field marked "one value or one per row" may hold a single value for all rows. Arrays are shared, not copied.

    Attributes:
        generation: The generation of the deployment that the batch ran under.
        prediction_ids: UUIDv7s, packed: 16 bytes each, in row order (see :func:`mint_ids` and :func:`id_texts`).
        timestamp_micros: The time of the answer in microseconds since 1970, UTC; one value or one per row (``int64``).
        door: ``rest``, ``grpc``, ``zmq``, or ``log`` for a prediction made by another system; one value or one per row.
        correlation_ids: One value or one per row; None when the request had no correlation id.
        feature_names: Names of the model's inputs, in order.
        features: A ``float64`` matrix of shape (rows, features) when all are numbers, else one column per feature.
        predictions: The answer of each row, None for a failed row; None when the whole batch failed.
        probabilities: Shape (rows, classes); None when the model gives no probabilities.
        classes: The text of each class, in the order of *probabilities*.
        latency_ms: The time from admission to answer; one value or one per row.
        event_micros: The time of the predicted event as stated by the caller, per row; None when not stated.
        ood: True for rows outside the reference's ranges; None when rows were not scored.
        errors: The error of each row, None for a row without error; None when no row failed.
        shadow: True when the answers were not returned to a caller.
        simulated: True when the traffic comes from a simulation; one value or one per row.
        image_digest: The digest of the container image of the version, or of the image that the server runs in.
    """

    model: ModelName
    version: int
    uuid: str
    generation: int
    prediction_ids: bytes
    timestamp_micros: int | NDArray[np.int64]
    door: str | tuple[str, ...]
    feature_names: tuple[str, ...]
    features: NDArray[np.float64] | tuple[Column, ...]
    predictions: Column | None
    latency_ms: float | NDArray[np.float64]
    release_tag: str | None = None
    fingerprint: str | None = None
    correlation_ids: str | tuple[str | None, ...] | None = None
    probabilities: NDArray[np.float64] | None = None
    classes: tuple[str, ...] = ()
    event_micros: tuple[int | None, ...] | None = None
    ood: NDArray[np.bool_] | None = None
    errors: tuple[str | None, ...] | None = None
    shadow: bool = False
    simulated: bool | NDArray[np.bool_] = False
    image_digest: str | None = None

    def __len__(self) -> int:
        return len(self.prediction_ids) // ID_BYTES

    def check(self) -> None:
        """
        Check that all columns have one value per row. :meth:`Spool.append` does not call this, for speed.

        Raises:
            ShapeMismatch: A column has another length; the message names it.
        """
        rows = len(self)
        lengths = {
            name: len(value)
            for name in ("predictions", "probabilities", "event_micros", "ood", "errors")
            if (value := getattr(self, name)) is not None
        }
        for name in ("timestamp_micros", "latency_ms", "simulated", "door", "correlation_ids"):
            if isinstance(value := getattr(self, name), np.ndarray | tuple):
                lengths[name] = len(value)
        columns = (self.features,) if isinstance(self.features, np.ndarray) else self.features
        lengths |= {f"features[{place}]": len(column) for place, column in enumerate(columns)}
        wrong = {name: length for name, length in lengths.items() if length != rows}
        width = self.features.shape[1] if isinstance(self.features, np.ndarray) else len(self.features)
        if wrong or width != len(self.feature_names) or len(self.prediction_ids) % ID_BYTES:
            raise ShapeMismatch(
                f"A block of {rows} rows and {len(self.feature_names)} features has columns with other lengths: "
                f"{wrong or f'{width} feature columns'}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRow:
    """
    The true outcome of a prediction.

    Attributes:
        received_at: When the server received the label; orders labels with equal ``label_timestamp``.
        label_timestamp: When the outcome became known, as stated by the caller; None means ``received_at``.
    """

    prediction_id: str
    true_label: Scalar
    label_source: str
    received_at: datetime
    label_timestamp: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """The decoded content of a sealed segment, in the order of writing."""

    spool_id: str
    seq: int
    blocks: tuple[PredictionBlock, ...]
    labels: tuple[LabelRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PendingSegment:
    """A segment in the inbox that is not shipped yet."""

    spool_id: str
    seq: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRow:
    """The profile (JSON) of one version's rows in one window of time, against one reference; profiles can be merged."""

    model: ModelName
    version: int
    reference_id: str
    window: Window
    profile: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentProfile:
    """A profile row and the segment whose rows it summarises."""

    spool_id: str
    seq: int
    row: ProfileRow

    @property
    def key(self) -> tuple[str, int, ModelName, int, str, Window]:
        """The primary key of the profile."""
        row = self.row
        return self.spool_id, self.seq, row.model, row.version, row.reference_id, row.window


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolProgress:
    """The newest segment of a spool whose rows and profiles are stored, and when they were stored."""

    spool_id: str
    seq: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """
    One logged prediction with all its labels; the last label is the effective one.

    ``event_time`` assigns the prediction to windows: the time that the caller claimed if plausible, else the time of
    the answer. A ``quarantined`` prediction has an implausible ``claimed_time`` and counts in no window.
    """

    prediction_id: str
    timestamp: datetime
    event_time: datetime
    claimed_time: datetime | None
    quarantined: bool
    model: ModelName
    version: int
    uuid: str
    release_tag: str | None
    fingerprint: str | None
    correlation_id: str | None
    generation: int
    prediction: Scalar
    probabilities: Mapping[str, float]
    features: Mapping[str, Scalar]
    latency_ms: float
    door: str
    ood: bool | None
    shadow: bool
    simulated: bool
    error: str | None
    image_digest: str | None = None
    labels: tuple[LabelRow, ...] = ()


def object_column(values: list[Any]) -> Column:
    """Make a column of Python objects; numpy would convert them, or make a table of equally long sequences."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def mint_ids(count: int, *, micros: int, randbytes: Callable[[int], bytes]) -> bytes:
    """
    Make *count* UUIDv7s at once, packed; *randbytes* gives random bytes, for example ``os.urandom``.

    >>> import random
    >>> packed = mint_ids(2, micros=1_700_000_000_000_000, randbytes=random.Random(0).randbytes)
    >>> [text[:15] for text in id_texts(packed)]
    ['018bcfe5-6800-7', '018bcfe5-6800-7']
    """
    milliseconds = (micros // 1000).to_bytes(6, "big")
    if count == 1:
        chance = randbytes(10)
        return b"%b%c%c%c%b" % (milliseconds, chance[0] & 0x0F | 0x70, chance[1], chance[2] & 0x3F | 0x80, chance[3:])
    rows = np.empty((count, ID_BYTES), dtype=np.uint8)
    rows[:, :6] = np.frombuffer(milliseconds, dtype=np.uint8)
    rows[:, 6:] = np.frombuffer(randbytes(10 * count), dtype=np.uint8).reshape(count, 10)
    rows[:, 6] = rows[:, 6] & 0x0F | 0x70
    rows[:, 8] = rows[:, 8] & 0x3F | 0x80
    return rows.tobytes()


def id_texts(packed: bytes) -> list[str]:
    """Convert packed ids to UUID texts."""
    h = packed.hex()
    return [
        f"{h[i : i + 8]}-{h[i + 8 : i + 12]}-{h[i + 12 : i + 16]}-{h[i + 16 : i + 20]}-{h[i + 20 : i + 32]}"
        for i in range(0, len(h), 2 * ID_BYTES)
    ]


def pack_ids(texts: list[str]) -> bytes:
    """
    Convert UUID texts to packed ids.

    Raises:
        InvalidValue: A text is not a UUID.
    """
    try:
        return b"".join(UUID(text).bytes for text in texts)
    except ValueError as error:
        raise InvalidValue(
            f"A prediction id is not a UUID: {error}.", remedy="Give the prediction_id of an answer."
        ) from error


def id_micros(prediction_id: str) -> int | None:
    """Give the creation time in a UUIDv7, in microseconds, precise to the millisecond; None for any other text."""
    try:
        value = UUID(prediction_id)
    except ValueError:
        return None
    return (value.int >> 80) * 1000 if value.version == 7 else None  # noqa: PLR2004 - the 7 of UUIDv7
