"""From segments to the rows of the lake: one table per model, and the labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendel.predictions.block_merge import each, join_blocks
from mendel.predictions.entities import Column, LabelRow, PredictionBlock, Segment, id_micros, id_texts
from mendel.predictions.ports import LABELS_TABLE, predictions_table
from mendel.values import EPOCH, ModelName, Table, Window, to_micros

TIMELESS = Window(EPOCH, EPOCH + timedelta(seconds=1))
"""Where the labels of predictions stand whose id tells no time."""

TIME_COLUMNS = frozenset({"timestamp", "event_time", "label_time", "received_at"})
"""Columns of the lake that hold microseconds since 1970."""

PAST, FUTURE = timedelta(days=30), timedelta(minutes=5)
"""How far an event time that a caller claims may lie before and after its prediction."""

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SegmentRows:
    """The rows of one segment, by table of the lake."""

    spool_id: str
    seq: int
    tables: dict[str, Table]


def segment_rows(segment: Segment) -> SegmentRows:
    """Lay a segment out as rows; a pure function of the segment, so that doing it again gives the same rows."""
    by_table: dict[str, list[Table]] = {}
    for block in join_blocks(segment.blocks):
        by_table.setdefault(predictions_table(block.model), []).append(block_rows(block))
    tables = {name: Table.concat(parts) for name, parts in by_table.items()}
    if segment.labels:
        tables[LABELS_TABLE] = label_rows(segment.labels, spool_id=segment.spool_id, seq=segment.seq)
    return SegmentRows(spool_id=segment.spool_id, seq=segment.seq, tables=tables)


def block_rows(block: PredictionBlock) -> Table:
    """
    The rows of one block.

    ``event_time`` is the caller's where it lies in [timestamp - 30 d, timestamp + 5 min], else the timestamp; a row
    whose ``claimed_time`` (float microseconds, NaN for none) lies outside is ``quarantined``. The row's own timestamp
    is the measure, so that shipping again after a crash cannot judge otherwise.
    """
    rows = len(block)
    timestamp = each(block.timestamp_micros, rows, np.int64)
    claimed = _claimed(block.event_micros, rows)
    known = ~np.isnan(claimed)
    early, late = timestamp - PAST // _MICROSECOND, timestamp + FUTURE // _MICROSECOND
    believable = known & (claimed >= early) & (claimed <= late)
    event_time = np.where(believable, np.nan_to_num(claimed), timestamp).astype(np.int64)
    columns: dict[str, Column] = {
        "prediction_id": _objects(id_texts(block.prediction_ids)),
        "timestamp": timestamp,
        "event_time": event_time,
        "claimed_time": claimed,
        "quarantined": known & ~believable,
        "model": _texts(str.__str__(block.model), rows),
        "version": np.full(rows, block.version, dtype=np.int64),
        "uuid": _texts(str.__str__(block.uuid), rows),
        "release_tag": _texts(block.release_tag, rows),
        "image_digest": _texts(block.image_digest, rows),
        "fingerprint": _texts(block.fingerprint, rows),
        "correlation_id": _texts(block.correlation_ids, rows),
        "generation": np.full(rows, block.generation, dtype=np.int64),
        "prediction": _predictions(block, rows),
    }
    if block.probabilities is not None:
        columns |= {f"proba.{name}": block.probabilities[:, at] for at, name in enumerate(block.classes)}
    columns |= {
        "latency_ms": each(block.latency_ms, rows, np.float64),
        "door": _texts(block.door, rows),
        "ood": _texts(None, rows) if block.ood is None else block.ood,
        "shadow": np.full(rows, block.shadow, dtype=np.bool_),
        "simulated": each(block.simulated, rows, np.bool_),
        "error": _texts(block.errors, rows),
    }
    features = block.features.T if isinstance(block.features, np.ndarray) else block.features
    columns |= {f"feature.{name}": tidy(column) for name, column in zip(block.feature_names, features, strict=True)}
    return Table(columns)


def label_rows(labels: Sequence[LabelRow], *, spool_id: str = "", seq: int = 0) -> Table:
    """
    The rows of labels, in order.

    ``event_time`` is the time in the prediction's id (UUIDv7; 0 for other ids), so that a window of predictions finds
    its labels in its own days, however late they came. Later (label_time, received_at, spool, seq, place) wins.
    """
    received = np.array([to_micros(label.received_at) for label in labels], dtype=np.int64)
    known = [label.label_timestamp for label in labels]
    stated = np.array([0 if moment is None else to_micros(moment) for moment in known], dtype=np.int64)
    return Table(
        {
            "prediction_id": _objects([label.prediction_id for label in labels]),
            "event_time": np.array([id_micros(label.prediction_id) or 0 for label in labels], dtype=np.int64),
            "label": tidy(_objects([label.true_label for label in labels])),
            "label_source": _objects([label.label_source for label in labels]),
            "label_time": np.where([moment is None for moment in known], received, stated),
            "received_at": received,
            "spool": _texts(spool_id, len(labels)),
            "seq": np.full(len(labels), seq, dtype=np.int64),
            "place": np.arange(len(labels), dtype=np.int64),
        }
    )


def tidy(column: Column) -> Column:
    """An object column as ``float64`` or ``bool`` where its values allow it without loss of a null."""
    if column.dtype != object:
        return column
    kinds = {type(value) for value in column.tolist()}
    if kinds and kinds <= {bool}:
        return column.astype(np.bool_)
    if kinds and kinds <= {int, float, type(None)} and kinds != {type(None)}:
        return np.array([np.nan if value is None else float(value) for value in column.tolist()])
    return column


def _predictions(block: PredictionBlock, rows: int) -> Column:
    return _texts(None, rows) if block.predictions is None else tidy(block.predictions)


def _claimed(micros: tuple[int | None, ...] | None, rows: int) -> NDArray[np.float64]:
    return np.array([np.nan if at is None else at for at in micros or (None,) * rows], dtype=np.float64)


def _texts(value: Iterable[str | None] | str | None, rows: int) -> Column:
    if value is None or isinstance(value, str):
        return np.full(rows, value, dtype=object)
    return _objects(list(value))


def _objects(values: list[Any]) -> Column:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def empty_rows() -> Table:
    """No predictions, in the columns that every model's have."""
    return block_rows(
        PredictionBlock(
            model=ModelName("none"),
            version=1,
            uuid="",
            generation=0,
            prediction_ids=b"",
            timestamp_micros=0,
            door="",
            feature_names=(),
            features=(),
            predictions=None,
            latency_ms=0.0,
        )
    )


def chosen_rows(
    rows: Table, window: Window | None, columns: Sequence[str] | None, prediction_ids: Sequence[str] | None
) -> Table:
    """Of rows in memory those that a lake would give: see :meth:`mendel.predictions.LakeSnapshot.read`."""
    if window is not None and len(rows):
        times = rows["event_time"]
        rows = rows.take((times >= to_micros(window.start)) & (times < to_micros(window.end)))
    if prediction_ids is not None and len(rows):
        rows = rows.take(among(rows, prediction_ids))
    if columns is None:
        return rows
    return Table({name: rows[name] if name in rows else missing_column(name, len(rows)) for name in columns})


def among(rows: Table, prediction_ids: Iterable[str]) -> NDArray[np.bool_]:
    """Which rows are of these predictions."""
    named = set(prediction_ids)
    return np.array([name in named for name in rows["prediction_id"]], dtype=np.bool_)


def merged_rows(parts: Sequence[Table]) -> Table:
    """All rows of *parts*; where one part has numbers and another only nulls, the whole has numbers."""
    whole = Table.concat(parts)
    plain = {
        name: tidy(column)
        for name, column in whole.columns.items()
        if column.dtype == object and any(name in part and part[name].dtype != object for part in parts)
    }
    return whole.with_columns(plain)


def completed(rows: Table, core: Table, columns: Sequence[str] | None) -> Table:
    """The rows with every column of *core* (or just *columns*): what holds only nulls is not in a lake."""
    if not len(rows):
        return core if columns is None else chosen_rows(core, None, columns, None)
    wanted = dict.fromkeys((*core.names, *rows.names) if columns is None else columns)
    return Table({name: rows[name] if name in rows else missing_column(name, len(rows)) for name in wanted})


def missing_column(name: str, rows: int) -> Column:
    """A column that a table lacks: NaN where the log always has numbers, None elsewhere."""
    if name in {"claimed_time", "latency_ms"} or name.startswith("proba."):
        return np.full(rows, np.nan)
    return _texts(None, rows)
