"""The prediction log at one moment: the inbox and each table of the lake, read once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import numpy as np

from mendel.predictions.entities import id_micros
from mendel.predictions.lake_rows import (
    PAST,
    UNDATED,
    SegmentRows,
    empty_rows,
    filter_rows,
    label_rows,
    merged_rows,
    narrow_column,
    rows_with_ids,
    with_all_columns,
)
from mendel.predictions.ports import LABELS_TABLE, Lake, LakeSnapshot, predictions_table
from mendel.values import ModelName, Table, Window, from_micros

_CHOOSING = ("prediction_id", "event_time", "version", "quarantined")
_JOINING = ("prediction_id", "event_time")
_VERSION_DIGIT = 14


class PointInTimeLog:
    """
    The rows of the log at one moment, for figures that must agree with each other.

    The inbox is listed before the lake is opened, so that a segment shipped in between is found in the lake. Each table
    of the lake is opened once, so that rows that arrive later are in no figure.

    Args:
        waiting: The rows of every segment in the inbox, listed before the lake is opened.
    """

    def __init__(self, waiting: Sequence[SegmentRows], lake: Lake) -> None:
        self.waiting = waiting
        self._lake = lake
        self._snapshots: dict[str, LakeSnapshot] = {}

    def rows(
        self,
        table: str,
        window: Window | None,
        *,
        columns: Sequence[str] | None = None,
        prediction_ids: Sequence[str] | None = None,
    ) -> Table:
        """Give the table's rows in the lake, and those of inbox segments that are not shipped to the table yet."""
        snapshot = self._snapshot(table)
        fresh = [s for s in self.waiting if table in s.tables and s.seq > snapshot.shipped(s.spool_id)]
        parts = [
            snapshot.read(window, columns=columns, prediction_ids=prediction_ids),
            *(filter_rows(segment.tables[table], window, columns, prediction_ids) for segment in fresh),
        ]
        core = label_rows(()) if table == LABELS_TABLE else empty_rows()
        return with_all_columns(merged_rows([part for part in parts if len(part)]), core, columns)

    def predictions(
        self,
        model: ModelName,
        window: Window,
        *,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        quarantined: bool = False,
    ) -> Table:
        """See :meth:`mendel.predictions.PredictionLog.predictions`."""
        wanted = None if columns is None else tuple(dict.fromkeys([*columns, *_CHOOSING]))
        rows = self.rows(predictions_table(model), window, columns=wanted)
        chosen = rows["quarantined"] == quarantined
        if version is not None:
            chosen &= rows["version"] == version
        rows = rows.take(chosen)
        return _each_once(rows.take(np.argsort(rows["event_time"], kind="stable")))

    def labels_of(self, predictions: Table) -> Table:
        """Give every label of these predictions; the times in their ids limit the days that are read."""
        ids = predictions["prediction_id"].tolist()
        timed = [name for name in ids if name[_VERSION_DIGIT] == "7"]
        spans = [UNDATED] if len(timed) < len(ids) else []
        if timed:
            first, last = id_micros(min(timed)) or 0, id_micros(max(timed)) or 0
            spans.append(Window(from_micros(first), from_micros(last) + timedelta(milliseconds=1)))
        parts = [self.rows(LABELS_TABLE, span) for span in spans]
        labels = Table.concat([part.take(rows_with_ids(part, ids)) for part in parts if len(part)])
        return labels.with_columns({"label": narrow_column(labels["label"])}) if len(labels) else label_rows(())

    def unmatched(self, window: Window) -> int:
        """Count labels without a logged prediction, among those of *window* and those without a time in their id."""
        parts = [self.rows(LABELS_TABLE, span, columns=_JOINING) for span in (window, UNDATED)]
        ids = {name for part in parts if len(part) for name in part["prediction_id"].tolist()}
        around = None if len(parts[1]) else Window(window.start - PAST, window.end + PAST)
        for table in self.prediction_tables() if ids else ():
            rows = self.rows(table, around, columns=_JOINING)
            ids -= set(rows["prediction_id"].tolist())
        return len(ids)

    def prediction_tables(self) -> tuple[str, ...]:
        """List the prediction tables of all models with logged predictions, sorted."""
        names = {*self._lake.tables(), *(name for segment in self.waiting for name in segment.tables)}
        return tuple(sorted(name for name in names if name != LABELS_TABLE))

    def _snapshot(self, table: str) -> LakeSnapshot:
        if table not in self._snapshots:
            self._snapshots[table] = self._lake.snapshot(table)
        return self._snapshots[table]


def _each_once(rows: Table) -> Table:
    """Keep the first row of each prediction id; ids are unique unless a fault duplicated rows."""
    ids = rows["prediction_id"].tolist()
    first = {name: at for at, name in reversed(list(enumerate(ids)))}
    return rows if len(first) == len(ids) else rows.take(np.array(sorted(first.values())))
