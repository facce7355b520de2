"""What was predicted, what turned out true, and the profiles of both: the nouns of the log."""

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
    One executed batch, column by column: what the serving path hands to the spool.

    Where a field takes "one or one per row", the single value stands for every row. Arrays are shared, not copied.

    Attributes:
        generation: Of the deployment the batch ran under.
        prediction_ids: UUIDv7s, packed: 16 bytes each, in row order (see :func:`mint_ids` and :func:`id_texts`).
        timestamp_micros: When the answer was made, microseconds since 1970 in UTC; one, or one per row (``int64``).
        door: ``rest``, ``grpc``, ``zmq`` or ``log`` (made elsewhere and only logged); one or one per row.
        correlation_ids: One, or one per row; None where there is none.
        feature_names: Names of the model's inputs, in order.
        features: A ``float64`` matrix of shape (rows, features) when all are numbers, else one column per feature.
        predictions: One per row (None where the row failed); None when the whole batch failed.
        probabilities: Shape (rows, classes), or None when the model gives none.
        classes: Text of each class, in the order of *probabilities*.
        latency_ms: From admission to answer; one or one per row.
        event_micros: When the predicted thing happened, as the caller says; None where the caller does not.
        ood: Rows outside the reference's ranges; None when not scored.
        errors: What went wrong, row by row; None when nothing did.
        shadow: The answer went to nobody.
        simulated: The traffic is a simulation's; one or one per row.
        image_digest: Of the container image that the version is delivered in, or that the server runs in.
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
        Refuse a block whose columns do not fit each other; the spool's hot path leaves this to its caller's tests.

        Raises:
            ShapeMismatch: Names the column.
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
            raise ShapeMismatch(f"A block of {rows} rows and {len(self.feature_names)} features has {wrong or width}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRow:
    """
    The true outcome of a prediction.

    Attributes:
        received_at: When a door took it; orders labels that claim the same time.
        label_timestamp: When it became known, as the caller says; None: when it was received.
    """

    prediction_id: str
    true_label: Scalar
    label_source: str
    received_at: datetime
    label_timestamp: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A segment as read back: whole, in the order of its writing."""

    spool_id: str
    seq: int
    blocks: tuple[PredictionBlock, ...]
    labels: tuple[LabelRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class PendingSegment:
    """A segment that waits in the inbox."""

    spool_id: str
    seq: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRow:
    """The mergeable summary (JSON) of one version's rows of one grain of time, against one reference."""

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
        """What makes it one of a kind."""
        row = self.row
        return self.spool_id, self.seq, row.model, row.version, row.reference_id, row.window


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolProgress:
    """The newest segment of a spool that is wholly recorded, and when it was."""

    spool_id: str
    seq: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """
    One logged prediction and every label it got, the one that counts last.

    ``event_time`` is what windows go by: the caller's where it was believable, else the time of the answer. A
    ``quarantined`` prediction claimed ``claimed_time``, which was not, and counts in no window.
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


def mint_ids(count: int, *, micros: int, randbytes: Callable[[int], bytes]) -> bytes:
    """
    Make *count* UUIDv7s at once, packed; *randbytes* gives chance (``os.urandom``, ``random.Random(0).randbytes``).

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
    """The packed ids as people write them."""
    h = packed.hex()
    return [
        f"{h[i : i + 8]}-{h[i + 8 : i + 12]}-{h[i + 12 : i + 16]}-{h[i + 16 : i + 20]}-{h[i + 20 : i + 32]}"
        for i in range(0, len(h), 2 * ID_BYTES)
    ]


def pack_ids(texts: list[str]) -> bytes:
    """
    The other way round.

    Raises:
        InvalidValue: One is not a UUID.
    """
    try:
        return b"".join(UUID(text).bytes for text in texts)
    except ValueError as error:
        raise InvalidValue(f"Not a prediction id: {error}.", remedy="Prediction ids are UUIDs.") from error


def id_micros(prediction_id: str) -> int | None:
    """When a UUIDv7 was minted, to the millisecond; None for every other text."""
    try:
        value = UUID(prediction_id)
    except ValueError:
        return None
    return (value.int >> 80) * 1000 if value.version == 7 else None  # noqa: PLR2004 - the 7 of UUIDv7
