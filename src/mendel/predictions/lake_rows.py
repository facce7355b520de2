"""Convert segments to the rows of the lake: one table of predictions per model, and one table of labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from mendel.predictions.block_merge import join_blocks, per_row
from mendel.predictions.entities import Column, LabelRow, PredictionBlock, Segment, id_micros, id_texts, object_column
from mendel.predictions.ports import LABELS_TABLE, predictions_table
from mendel.values import EPOCH, ModelName, Table, Window, to_micros
from mendel.values.table import is_exact

UNDATED = Window(EPOCH, EPOCH + timedelta(seconds=1))
"""The window of labels whose prediction id contains no time; their ``event_time`` is 0."""

TIME_COLUMNS = frozenset({"timestamp", "event_time", "label_time", "received_at"})
"""Columns of the lake that hold microseconds since 1970."""

PAST, FUTURE = timedelta(days=30), timedelta(minutes=5)
"""How far a claimed event time may lie before and after the time of its prediction."""

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SegmentRows:
    """The rows of one segment, per table of the lake."""

    spool_id: str
    seq: int
    tables: dict[str, Table]


def segment_rows(segment: Segment) -> SegmentRows:
    """Convert a segment to rows; the same segment always gives the same rows."""
    by_table: dict[str, list[Table]] = {}
    for block in join_blocks(segment.blocks):
        by_table.setdefault(predictions_table(block.model), []).append(block_rows(block))
    tables = {name: Table.concat(parts) for name, parts in by_table.items()}
    if segment.labels:
        tables[LABELS_TABLE] = label_rows(segment.labels, spool_id=segment.spool_id, seq=segment.seq)
    return SegmentRows(spool_id=segment.spool_id, seq=segment.seq, tables=tables)


def block_rows(block: PredictionBlock) -> Table:
    """
    Convert a block to rows.

    ``event_time`` is the caller's ``claimed_time`` (float microseconds, NaN for none) if it lies in [timestamp - 30 d,
    timestamp + 5 min], else the row's timestamp. A row with a claimed time outside is ``quarantined``. The rule uses
    the row's own timestamp and not the clock, so that shipping a segment again gives the same result.
    """
    rows = len(block)
    timestamp = per_row(block.timestamp_micros, rows, np.int64)
    claimed = _claimed(block.event_micros, rows)
    known = ~np.isnan(claimed)
    early, late = timestamp - PAST // _MICROSECOND, timestamp + FUTURE // _MICROSECOND
    believable = known & (claimed >= early) & (claimed <= late)
    event_time = np.where(believable, np.nan_to_num(claimed), timestamp).astype(np.int64)
    columns: dict[str, Column] = {
        "prediction_id": object_column(id_texts(block.prediction_ids)),
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
        "latency_ms": per_row(block.latency_ms, rows, np.float64),
        "door": _texts(block.door, rows),
        "ood": _texts(None, rows) if block.ood is None else block.ood,
        "shadow": np.full(rows, block.shadow, dtype=np.bool_),
        "simulated": per_row(block.simulated, rows, np.bool_),
        "error": _texts(block.errors, rows),
    }
    features = block.features.T if isinstance(block.features, np.ndarray) else block.features
    columns |= {
        f"feature.{name}": narrow_column(column) for name, column in zip(block.feature_names, features, strict=True)
    }
    return Table(columns)


def label_rows(labels: Sequence[LabelRow], *, spool_id: str = "", seq: int = 0) -> Table:
    """
    Convert labels to rows, in order.

    ``event_time`` is the time in the prediction's id (UUIDv7; 0 for other ids), so that late labels are stored in the
    day of their prediction. The label with the highest (label_time, received_at, spool, seq, place) is effective.
    """
    received = np.array([to_micros(label.received_at) for label in labels], dtype=np.int64)
    known = [label.label_timestamp for label in labels]
    stated = np.array([0 if moment is None else to_micros(moment) for moment in known], dtype=np.int64)
    return Table(
        {
            "prediction_id": object_column([label.prediction_id for label in labels]),
            "event_time": np.array([id_micros(label.prediction_id) or 0 for label in labels], dtype=np.int64),
            "label": narrow_column(object_column([label.true_label for label in labels])),
            "label_source": object_column([label.label_source for label in labels]),
            "label_time": np.where([moment is None for moment in known], received, stated),
            "received_at": received,
            "spool": _texts(spool_id, len(labels)),
            "seq": np.full(len(labels), seq, dtype=np.int64),
            "place": np.arange(len(labels), dtype=np.int64),
        }
    )


def narrow_column(column: Column) -> Column:
    """Convert an object column to ``float64`` or ``bool`` if no value or null is lost; other columns stay unchanged."""
    if column.dtype != object:
        return column
    kinds = {type(value) for value in column.tolist()}
    if kinds and kinds <= {bool}:
        return column.astype(np.bool_)
    if kinds and kinds <= {int, float, type(None)} and kinds != {type(None)} and all(map(is_exact, column)):
        return np.array([np.nan if value is None else float(value) for value in column.tolist()])
    return column


def _predictions(block: PredictionBlock, rows: int) -> Column:
    return _texts(None, rows) if block.predictions is None else narrow_column(block.predictions)


def _claimed(micros: tuple[int | None, ...] | None, rows: int) -> NDArray[np.float64]:
    return np.array([np.nan if at is None else at for at in micros or (None,) * rows], dtype=np.float64)


def _texts(value: Iterable[str | None] | str | None, rows: int) -> Column:
    if value is None or isinstance(value, str):
        return np.full(rows, value, dtype=object)
    return object_column(list(value))


def empty_rows() -> Table:
    """Give a table without rows that has the columns common to all models."""
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


def filter_rows(
    rows: Table, window: Window | None, columns: Sequence[str] | None, prediction_ids: Sequence[str] | None
) -> Table:
    """Filter rows in memory by the rules of :meth:`mendel.predictions.LakeSnapshot.read`."""
    if window is not None and len(rows):
        times = rows["event_time"]
        rows = rows.take((times >= to_micros(window.start)) & (times < to_micros(window.end)))
    if prediction_ids is not None and len(rows):
        rows = rows.take(rows_with_ids(rows, prediction_ids))
    if columns is None:
        return rows
    return Table({name: rows[name] if name in rows else missing_column(name, len(rows)) for name in columns})


def rows_with_ids(rows: Table, prediction_ids: Iterable[str]) -> NDArray[np.bool_]:
    """Give a mask of the rows whose prediction id is in *prediction_ids*."""
    named = set(prediction_ids)
    return np.array([name in named for name in rows["prediction_id"]], dtype=np.bool_)


def merged_rows(parts: Sequence[Table]) -> Table:
    """Concatenate *parts*; a column that is numeric in one part and all null in another becomes numeric."""
    whole = Table.concat(parts)
    plain = {
        name: narrow_column(column)
        for name, column in whole.columns.items()
        if column.dtype == object and any(name in part and part[name].dtype != object for part in parts)
    }
    return whole.with_columns(plain)


def with_all_columns(rows: Table, core: Table, columns: Sequence[str] | None) -> Table:
    """Add the columns of *core* (or *columns*) that are missing, because a lake stores no column of nulls only."""
    if not len(rows):
        return core if columns is None else filter_rows(core, None, columns, None)
    wanted = dict.fromkeys((*core.names, *rows.names) if columns is None else columns)
    return Table({name: rows[name] if name in rows else missing_column(name, len(rows)) for name in wanted})


def missing_column(name: str, rows: int) -> Column:
    """Make a column of missing values: NaN for a column of numbers, None for any other."""
    if name in {"claimed_time", "latency_ms"} or name.startswith("proba."):
        return np.full(rows, np.nan)
    return _texts(None, rows)
