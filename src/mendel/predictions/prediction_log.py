"""The prediction log as one reads it: lake and inbox together, each row once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime, timedelta
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from mendel.durable import Transaction, UnitOfWork
from mendel.errors import PredictionNotFound, SegmentCorrupt
from mendel.predictions.entities import PendingSegment, Prediction, ProfileRow, id_micros
from mendel.predictions.label_matching import aligned, counting_labels
from mendel.predictions.lake_rows import (
    PAST,
    TIMELESS,
    SegmentRows,
    among,
    chosen_rows,
    completed,
    empty_rows,
    label_rows,
    merged_rows,
    segment_rows,
    tidy,
)
from mendel.predictions.log_statistics import (
    LAST,
    SPANS,
    LogStats,
    RowStats,
    SpanStats,
    positive_class,
    row_stats,
    share,
)
from mendel.predictions.ports import LABELS_TABLE, Lake, ProfileStore, SegmentInbox, predictions_table
from mendel.predictions.row_decoding import one_prediction
from mendel.predictions.segments import parse_segment
from mendel.predictions.shipper import Summarise, segment_profiles
from mendel.values import ModelName, Table, Window, from_micros, to_micros

_CACHED_SEGMENTS = 256
_CHOOSING = ("prediction_id", "event_time", "version", "quarantined")
_JOINING = ("prediction_id", "event_time")
_VERSION_DIGIT = 14


class PredictionLog:
    """
    Reads predictions and labels: rows of the lake, and those of waiting segments that are newer than its mark.

    The inbox is read before the lake: a segment shipped in between is then seen in the lake, and never missed.

    Args:
        summarise: As given to the shipper; makes the profiles of fresh rows.
    """

    def __init__(self, inbox: SegmentInbox, lake: Lake, unit: UnitOfWork, summarise: Summarise) -> None:
        self._inbox = inbox
        self._lake = lake
        self._unit = unit
        self._summarise = summarise
        self._read: OrderedDict[PendingSegment, SegmentRows] = OrderedDict()
        self._mutex = Lock()

    def predictions(
        self,
        model: ModelName,
        window: Window,
        *,
        version: int | None = None,
        columns: Sequence[str] | None = None,
        quarantined: bool = False,
    ) -> Table:
        """
        Predictions whose event time lies in *window*, oldest first, each id once.

        Shadow and failed rows are among them; columns ``shadow`` and ``error`` tell.

        Args:
            columns: Only these (and what the choice needs); None: all.
            quarantined: Give the rows in quarantine, by their time of answer, instead of the others.
        """
        wanted = None if columns is None else tuple(dict.fromkeys([*columns, *_CHOOSING]))
        rows = self._rows(predictions_table(model), window, columns=wanted)
        chosen = rows["quarantined"] == quarantined
        if version is not None:
            chosen &= rows["version"] == version
        rows = rows.take(chosen)
        return _each_once(rows.take(np.argsort(rows["event_time"], kind="stable")))

    def labelled(self, model: ModelName, window: Window, *, version: int | None = None) -> Table:
        """
        The predictions of *window* that have a label, with ``label`` and ``label_time``; the last label counts.

        Labels are given in the kind of the predictions where they can be (see :func:`aligned`).
        """
        rows = self.predictions(model, window, version=version)
        labels = self._labels_of(rows)
        known = counting_labels(labels).row
        rows = rows.take(among(rows, known))
        chosen = np.array([known[name] for name in rows["prediction_id"].tolist()], dtype=np.int64)
        outcome = aligned(labels["label"][chosen], rows["prediction"])
        return rows.with_columns({"label": outcome, "label_time": labels["label_time"][chosen]})

    def stats(
        self,
        model: ModelName,
        now: datetime,
        *,
        lookback: timedelta = timedelta(days=30),
        positive: str | None = None,
    ) -> LogStats:
        """Figures of the last *lookback*; *positive* is the positive class where the model's policy names one."""
        window = Window(now - lookback, now + timedelta(minutes=5))
        everything = self.predictions(model, window)
        suspect = self.predictions(model, window, columns=("quarantined",), quarantined=True)
        rows = everything.take(~everything["shadow"])
        counting = counting_labels(self._labels_of(everything))
        labelled = among(rows, counting.row)
        if positive is None:
            positive = positive_class(rows)
        return LogStats(
            model=model,
            window=window,
            predictions=len(rows),
            shadow=len(everything) - len(rows),
            quarantined=len(suspect),
            errors=sum(error is not None for error in rows["error"]),
            labelled=int(labelled.sum()),
            coverage=share(int(labelled.sum()), len(rows)),
            conflicts=counting.conflicts,
            unmatched=self._unmatched(window),
            positive=positive,
            last=_row_stats(rows, labelled, np.arange(len(rows))[-LAST:], positive),
            spans=tuple(_span_stats(rows, labelled, Window.before(now, span), positive) for span in SPANS),
        )

    def find(self, prediction_id: str) -> Prediction:
        """
        One prediction with its labels.

        Raises:
            PredictionNotFound: No model's log knows the id.
        """
        waiting = self._waiting()
        for table in self._prediction_tables(waiting):
            rows = self._merged(table, waiting, None, prediction_ids=(prediction_id,))
            if len(rows):
                labels = self._merged(LABELS_TABLE, waiting, None, prediction_ids=(prediction_id,))
                return one_prediction(rows, labels)
        raise PredictionNotFound(f"No prediction {prediction_id!r} is in the log.")

    def profile_rows(self, model: ModelName, version: int, reference_id: str, window: Window) -> tuple[ProfileRow, ...]:
        """Profiles whose own window starts in *window*; those of waiting segments are made now."""
        waiting = self._waiting()

        def recorded(tx: Transaction) -> tuple[tuple[ProfileRow, ...], dict[str, int]]:
            store = tx.store(ProfileStore)
            progress = {segment.spool_id: store.progress(segment.spool_id) for segment in waiting}
            return store.rows(model, version, reference_id, window), progress

        rows, progress = self._unit.read(recorded)
        fresh = (s for s in waiting if s.seq > progress[s.spool_id] and predictions_table(model) in s.tables)
        made = [profile.row for segment in fresh for profile in segment_profiles(segment, self._summarise)]
        wanted = (model, version, reference_id)
        return rows + tuple(
            row for row in made if (row.model, row.version, row.reference_id) == wanted and row.window.start in window
        )

    def models(self) -> tuple[ModelName, ...]:
        """Every model of which anything was logged."""
        return tuple(ModelName(table.rpartition("/")[2]) for table in self._prediction_tables(self._waiting()))

    def _unmatched(self, window: Window) -> int:
        """Labels of *window*, or without a time, whose prediction is in no model's log."""
        waiting = self._waiting()
        parts = [self._merged(LABELS_TABLE, waiting, span, columns=_JOINING) for span in (window, TIMELESS)]
        ids = {name for part in parts if len(part) for name in part["prediction_id"].tolist()}
        around = None if len(parts[1]) else Window(window.start - PAST, window.end + PAST)
        for table in self._prediction_tables(waiting) if ids else ():
            rows = self._merged(table, waiting, around, columns=_JOINING)
            ids -= set(rows["prediction_id"].tolist())
        return len(ids)

    def _labels_of(self, rows: Table) -> Table:
        """Every label of these predictions; their ids tell in which days they stand."""
        ids = rows["prediction_id"].tolist()
        timed = [name for name in ids if name[_VERSION_DIGIT] == "7"]
        spans = [TIMELESS] if len(timed) < len(ids) else []
        if timed:
            first, last = id_micros(min(timed)) or 0, id_micros(max(timed)) or 0
            spans.append(Window(from_micros(first), from_micros(last) + timedelta(milliseconds=1)))
        parts = [self._rows(LABELS_TABLE, span) for span in spans]
        labels = Table.concat([part.take(among(part, ids)) for part in parts if len(part)])
        return labels.with_columns({"label": tidy(labels["label"])}) if len(labels) else label_rows(())

    def _rows(self, table: str, window: Window | None, *, columns: Sequence[str] | None = None) -> Table:
        return self._merged(table, self._waiting(), window, columns=columns)

    def _merged(
        self,
        table: str,
        waiting: Sequence[SegmentRows],
        window: Window | None,
        *,
        columns: Sequence[str] | None = None,
        prediction_ids: Sequence[str] | None = None,
    ) -> Table:
        snapshot = self._lake.snapshot(table)
        fresh = [s for s in waiting if table in s.tables and s.seq > snapshot.shipped(s.spool_id)]
        parts = [
            snapshot.read(window, columns=columns, prediction_ids=prediction_ids),
            *(chosen_rows(segment.tables[table], window, columns, prediction_ids) for segment in fresh),
        ]
        core = label_rows(()) if table == LABELS_TABLE else empty_rows()
        return completed(merged_rows([part for part in parts if len(part)]), core, columns)

    def _prediction_tables(self, waiting: Sequence[SegmentRows]) -> tuple[str, ...]:
        names = {*self._lake.tables(), *(name for segment in waiting for name in segment.tables)}
        return tuple(sorted(name for name in names if name != LABELS_TABLE))

    def _waiting(self) -> tuple[SegmentRows, ...]:
        """The rows of every waiting segment; one that cannot be read is left to the shipper to report."""
        found = []
        for segment in self._inbox.pending():
            rows = self._segment(segment)
            if rows is not None:
                found.append(rows)
        return tuple(found)

    def _segment(self, segment: PendingSegment) -> SegmentRows | None:
        with self._mutex:
            if (known := self._read.get(segment)) is not None:
                self._read.move_to_end(segment)
                return known
        content = self._inbox.read(segment.spool_id, segment.seq)
        if content is None:
            return None
        try:
            rows = segment_rows(parse_segment(content))
        except SegmentCorrupt:
            return None
        with self._mutex:
            self._read[segment] = rows
            while len(self._read) > _CACHED_SEGMENTS:
                self._read.popitem(last=False)
        return rows


def _each_once(rows: Table) -> Table:
    """Ids are unique by construction; should one stand twice all the same, its first row counts."""
    ids = rows["prediction_id"].tolist()
    first = {name: at for at, name in reversed(list(enumerate(ids)))}
    return rows if len(first) == len(ids) else rows.take(np.array(sorted(first.values())))


def _row_stats(rows: Table, labelled: NDArray[np.bool_], chosen: NDArray[np.int64], positive: str | None) -> RowStats:
    return row_stats(rows.take(chosen), labelled=labelled[chosen], positive=positive)


def _span_stats(rows: Table, labelled: NDArray[np.bool_], window: Window, positive: str | None) -> SpanStats:
    times = rows["event_time"]
    inside = np.flatnonzero((times >= to_micros(window.start)) & (times < to_micros(window.end)))
    return SpanStats(window=window, rows=_row_stats(rows, labelled, inside, positive))
