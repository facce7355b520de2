"""Merge small batches of the same kind into one block, so that rows are built once per segment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from mendel.predictions.entities import Column, PredictionBlock


def join_blocks(blocks: Iterable[PredictionBlock]) -> tuple[PredictionBlock, ...]:
    """Merge blocks that have the same version and columns, keeping the order of rows; empty blocks are dropped."""
    alike: dict[tuple[object, ...], list[PredictionBlock]] = {}
    for block in blocks:
        if len(block):
            alike.setdefault(_shape(block), []).append(block)
    return tuple(_join(group) for group in alike.values())


def _shape(block: PredictionBlock) -> tuple[object, ...]:
    matrix = isinstance(block.features, np.ndarray)
    kinds = () if matrix else tuple(column.dtype.char for column in block.features)
    return (
        *(block.model, block.version, block.uuid, block.generation, block.release_tag, block.fingerprint),
        block.image_digest,
        *(block.shadow, block.feature_names, block.classes, matrix, kinds),
        None if block.predictions is None else block.predictions.dtype.char,
        block.probabilities is None,
        block.ood is None,
    )


def _join(blocks: Sequence[PredictionBlock]) -> PredictionBlock:
    first = blocks[0]
    if len(blocks) == 1:
        return first
    predicted = [b.predictions for b in blocks if b.predictions is not None]
    likely = [b.probabilities for b in blocks if b.probabilities is not None]
    scored = [b.ood for b in blocks if b.ood is not None]
    return replace(
        first,
        prediction_ids=b"".join(b.prediction_ids for b in blocks),
        timestamp_micros=np.concatenate([per_row(b.timestamp_micros, len(b), np.int64) for b in blocks]),
        door=_chained((b.door, len(b)) for b in blocks),
        correlation_ids=_chained((b.correlation_ids, len(b)) for b in blocks),
        event_micros=_chained((b.event_micros, len(b)) for b in blocks),
        errors=_chained((b.errors, len(b)) for b in blocks),
        features=_joined_features(blocks),
        predictions=np.concatenate(predicted) if predicted else None,
        probabilities=np.concatenate(likely) if likely else None,
        ood=np.concatenate(scored) if scored else None,
        latency_ms=np.concatenate([per_row(b.latency_ms, len(b), np.float64) for b in blocks]),
        simulated=np.concatenate([per_row(b.simulated, len(b), np.bool_) for b in blocks]),
    )


def per_row(value: Any, rows: int, kind: type[np.generic]) -> Column:
    """Give one value per row: an array unchanged, or a single value repeated *rows* times."""
    return value if isinstance(value, np.ndarray) else np.full(rows, value, dtype=kind)


def _chained(values: Iterable[tuple[Any, int]]) -> tuple[Any, ...]:
    return tuple(chain.from_iterable(v if isinstance(v, tuple) else (v,) * rows for v, rows in values))


def _joined_features(blocks: Sequence[PredictionBlock]) -> Any:
    if isinstance(blocks[0].features, np.ndarray):
        return np.concatenate([block.features for block in blocks])
    return tuple(np.concatenate(columns) for columns in zip(*(block.features for block in blocks), strict=True))
