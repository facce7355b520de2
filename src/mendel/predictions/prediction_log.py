"""Read the prediction log from the lake and the inbox; each row is returned once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime, timedelta
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from mendel.durable import Transaction, UnitOfWork
from mendel.errors import PredictionNotFound, SegmentCorrupt
from mendel.predictions.entities import PendingSegment, Prediction, ProfileRow
from mendel.predictions.label_matching import convert_labels, effective_labels
from mendel.predictions.lake_rows import SegmentRows, rows_with_ids, segment_rows
from mendel.predictions.log_statistics import (
    NEWEST_ROWS,
    SPANS,
    LogStats,
    RowStats,
    SpanStats,
    positive_class,
    row_stats,
    share,
)
from mendel.predictions.point_in_time_log import PointInTimeLog
from mendel.predictions.ports import LABELS_TABLE, Lake, ProfileStore, SegmentInbox, predictions_table
from mendel.predictions.row_decoding import decode_prediction_row
from mendel.predictions.segments import parse_segment
from mendel.predictions.shipper import Summarise, segment_profiles
from mendel.values import ModelName, Table, Window, to_micros

_CACHED_SEGMENTS = 256
_STATS_LOOKBACK = timedelta(days=30)


class PredictionLog:
    """
    Reads predictions and labels from the lake, and from inbox segments that are not shipped to the lake yet.

    All results of one call describe one moment (:class:`PointInTimeLog`); rows that arrive during the call are ignored.

    Args:
        summarise: The function given to the shipper, which makes the profiles of rows that are not shipped yet.
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
        Give the predictions whose event time lies in *window*, oldest first, each id once.

        Shadow rows and failed rows are included; the columns ``shadow`` and ``error`` mark them.

        Args:
            columns: Give these columns, and those needed for the selection; None gives all columns.
            quarantined: Give only quarantined rows, selected by the time of their answer, instead of the other rows.
        """
        reading = self._reading()
        return reading.predictions(model, window, version=version, columns=columns, quarantined=quarantined)

    def labelled(self, model: ModelName, window: Window, *, version: int | None = None) -> Table:
        """
        Give the predictions of *window* that have a label, with the columns ``label`` and ``label_time`` added.

        The last label of a prediction counts. Labels are converted to the type of the predictions if possible.
        """
        reading = self._reading()
        rows = reading.predictions(model, window, version=version)
        labels = reading.labels_of(rows)
        known = effective_labels(labels).row
        rows = rows.take(rows_with_ids(rows, known))
        chosen = np.array([known[name] for name in rows["prediction_id"].tolist()], dtype=np.int64)
        outcome = convert_labels(labels["label"][chosen], rows["prediction"])
        return rows.with_columns({"label": outcome, "label_time": labels["label_time"][chosen]})

    def stats(self, model: ModelName, now: datetime) -> LogStats:
        """Compute statistics of the last 30 days; the positive class is guessed."""
        window = Window(now - _STATS_LOOKBACK, now + timedelta(minutes=5))
        reading = self._reading()
        everything = reading.predictions(model, window)
        suspect = reading.predictions(model, window, columns=("quarantined",), quarantined=True)
        rows = everything.take(~everything["shadow"])
        counting = effective_labels(reading.labels_of(everything))
        labelled = rows_with_ids(rows, counting.row)
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
            unmatched=reading.unmatched(window),
            positive=positive,
            last=_row_stats(rows, labelled, np.arange(len(rows))[-NEWEST_ROWS:], positive),
            spans=tuple(_span_stats(rows, labelled, Window.before(now, span), positive) for span in SPANS),
        )

    def find(self, prediction_id: str) -> Prediction:
        """
        Find one prediction with its labels.

        Raises:
            PredictionNotFound: No model's log has a prediction with this id.
        """
        reading = self._reading()
        for table in reading.prediction_tables():
            rows = reading.rows(table, None, prediction_ids=(prediction_id,))
            if len(rows):
                labels = reading.rows(LABELS_TABLE, None, prediction_ids=(prediction_id,))
                return decode_prediction_row(rows, labels)
        raise PredictionNotFound(
            f"The prediction log has no prediction {prediction_id!r}.",
            remedy="Wait some seconds if the prediction is new, or check the id.",
        )

    def profile_rows(self, model: ModelName, version: int, reference_id: str, window: Window) -> tuple[ProfileRow, ...]:
        """Give the profiles whose own window starts in *window*; profiles of unshipped segments are computed now."""
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
        """List every model with logged predictions, sorted."""
        return tuple(ModelName(table.rpartition("/")[2]) for table in self._reading().prediction_tables())

    def _reading(self) -> PointInTimeLog:
        return PointInTimeLog(self._waiting(), self._lake)

    def _waiting(self) -> tuple[SegmentRows, ...]:
        """Give the rows of every inbox segment; unreadable segments are skipped here and reported by the shipper."""
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


def _row_stats(rows: Table, labelled: NDArray[np.bool_], chosen: NDArray[np.int64], positive: str | None) -> RowStats:
    return row_stats(rows.take(chosen), labelled=labelled[chosen], positive=positive)


def _span_stats(rows: Table, labelled: NDArray[np.bool_], window: Window, positive: str | None) -> SpanStats:
    times = rows["event_time"]
    inside = np.flatnonzero((times >= to_micros(window.start)) & (times < to_micros(window.end)))
    return SpanStats(window=window, rows=_row_stats(rows, labelled, inside, positive))
