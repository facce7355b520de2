"""Encode blocks and labels as bytes and decode them: msgpack around raw column bytes, without pyarrow or deltalake."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from mendel.errors import SegmentCorrupt
from mendel.predictions.entities import Column, LabelRow, PredictionBlock, Scalar
from mendel.values import ModelName, from_micros, to_micros

_FLOAT = np.dtype(np.float64)
_BOOL = np.dtype(np.bool_)
_LARGEST_INT = 2**63


def _plain(value: object) -> object:
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, np.generic):
        return value.item()
    return str(value)


_ENCODER = msgspec.msgpack.Encoder(enc_hook=_plain)


class _Block(msgspec.Struct, array_like=True, frozen=True):
    """The layout of a block on disk; new fields are appended at the end, so that older segments stay readable."""

    model: str
    version: int
    uuid: str
    generation: int
    release_tag: str | None
    fingerprint: str | None
    shadow: bool
    ids: bytes
    timestamps: int | bytes
    door: str | list[str]
    correlation_ids: str | list[str | None] | None
    event_micros: list[int | None] | None
    feature_names: list[str]
    matrix: bytes | None
    columns: list[tuple[str, bytes | list[Any]]] | None
    predictions: tuple[str, bytes | list[Any]] | None
    probabilities: bytes | None
    classes: list[str]
    latency_ms: float | bytes
    ood: bytes | None
    errors: list[str | None] | None
    simulated: bool | bytes
    image_digest: str | None = None


class _Label(msgspec.Struct, array_like=True, frozen=True):
    prediction_id: str
    true_label: Scalar
    label_source: str
    received_micros: int
    label_micros: int | None


_BLOCK_DECODER = msgspec.msgpack.Decoder(_Block)
_LABELS_DECODER = msgspec.msgpack.Decoder(list[_Label])


def encode_block(block: PredictionBlock) -> bytes:
    """Encode a block; a value without a msgpack type is stored as text."""
    try:
        return _ENCODER.encode(_block_fields(block, clean=False))
    except (OverflowError, UnicodeEncodeError):
        return _ENCODER.encode(_block_fields(block, clean=True))


def decode_block(payload: bytes) -> PredictionBlock:
    """
    Decode a block; its arrays are read-only.

    Raises:
        SegmentCorrupt: *payload* is not a block.
    """
    try:
        raw = _BLOCK_DECODER.decode(payload)
        return _from_raw(raw)
    except (msgspec.DecodeError, ValueError, TypeError) as error:
        raise SegmentCorrupt(f"A block of predictions cannot be decoded: {error}.") from error


def encode_labels(labels: Sequence[LabelRow]) -> bytes:
    """Encode labels; a value without a msgpack type is stored as text."""
    try:
        return _ENCODER.encode([_label_fields(label, label.true_label) for label in labels])
    except (OverflowError, UnicodeEncodeError):
        return _ENCODER.encode([_label_fields(label, _storable(label.true_label)) for label in labels])


def decode_labels(payload: bytes) -> tuple[LabelRow, ...]:
    """
    Decode labels.

    Raises:
        SegmentCorrupt: *payload* does not hold labels.
    """
    try:
        rows = _LABELS_DECODER.decode(payload)
    except msgspec.DecodeError as error:
        raise SegmentCorrupt(f"Labels cannot be decoded: {error}.") from error
    return tuple(
        LabelRow(
            prediction_id=row.prediction_id,
            true_label=row.true_label,
            label_source=row.label_source,
            received_at=from_micros(row.received_micros),
            label_timestamp=None if row.label_micros is None else from_micros(row.label_micros),
        )
        for row in rows
    )


def _label_fields(label: LabelRow, outcome: object) -> tuple[object, ...]:
    known = label.label_timestamp
    return (
        label.prediction_id,
        outcome,
        label.label_source,
        to_micros(label.received_at),
        None if known is None else to_micros(known),
    )


def _block_fields(block: PredictionBlock, *, clean: bool) -> tuple[object, ...]:
    matrix = block.features if isinstance(block.features, np.ndarray) else None
    columns = None if isinstance(block.features, np.ndarray) else [_column(c, clean=clean) for c in block.features]
    return (
        str.__str__(block.model),
        block.version,
        str.__str__(block.uuid),
        block.generation,
        block.release_tag,
        block.fingerprint,
        block.shadow,
        block.prediction_ids,
        _one_or_each(block.timestamp_micros, np.int64),
        block.door,
        block.correlation_ids,
        block.event_micros,
        block.feature_names,
        None if matrix is None else _raw(matrix, _FLOAT),
        columns,
        None if block.predictions is None else _column(block.predictions, clean=clean),
        None if block.probabilities is None else _raw(block.probabilities, _FLOAT),
        block.classes,
        _one_or_each(block.latency_ms, np.float64),
        None if block.ood is None else _raw(block.ood, _BOOL),
        block.errors,
        _one_or_each(block.simulated, np.bool_),
        None if block.image_digest is None else str.__str__(block.image_digest),
    )


def _raw(values: Column, kind: np.dtype[Any] | type[np.generic]) -> memoryview:
    return np.ascontiguousarray(values, dtype=kind).data


def _one_or_each(value: object, kind: type[np.generic]) -> object:
    return _raw(value, kind) if isinstance(value, np.ndarray) else value


def _column(column: Column, *, clean: bool) -> tuple[str, object]:
    if column.dtype == _BOOL:
        return "b", _raw(column, _BOOL)
    if column.dtype.kind in "fui":
        return "f", _raw(column, _FLOAT)
    values = column.tolist()
    return "o", [_storable(value) for value in values] if clean else values


def _storable(value: object) -> object:
    if isinstance(value, int) and not -_LARGEST_INT <= value < _LARGEST_INT:
        return str(value)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return value


def _from_raw(raw: _Block) -> PredictionBlock:
    rows = len(raw.ids) // 16
    features = (
        tuple(_read_column(*column) for column in raw.columns or ())
        if raw.matrix is None
        else np.frombuffer(raw.matrix, _FLOAT).reshape(rows, len(raw.feature_names))
    )
    return PredictionBlock(
        model=ModelName(raw.model),
        version=raw.version,
        uuid=raw.uuid,
        generation=raw.generation,
        release_tag=raw.release_tag,
        image_digest=raw.image_digest,
        fingerprint=raw.fingerprint,
        shadow=raw.shadow,
        prediction_ids=raw.ids,
        timestamp_micros=_read_each(raw.timestamps, np.int64),
        door=_frozen(raw.door),
        correlation_ids=_frozen(raw.correlation_ids),
        event_micros=_frozen(raw.event_micros),
        feature_names=tuple(raw.feature_names),
        features=features,
        predictions=None if raw.predictions is None else _read_column(*raw.predictions),
        probabilities=None
        if raw.probabilities is None
        else np.frombuffer(raw.probabilities, _FLOAT).reshape(rows, len(raw.classes)),
        classes=tuple(raw.classes),
        latency_ms=_read_each(raw.latency_ms, np.float64),
        ood=None if raw.ood is None else np.frombuffer(raw.ood, _BOOL),
        errors=_frozen(raw.errors),
        simulated=_read_each(raw.simulated, np.bool_),
    )


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _read_each(value: Any, kind: type[np.generic]) -> Any:
    return np.frombuffer(value, kind) if isinstance(value, bytes) else value


def _read_column(kind: str, values: bytes | list[Any]) -> Column:
    if isinstance(values, bytes):
        return np.frombuffer(values, dtype=_BOOL if kind == "b" else _FLOAT)
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column
