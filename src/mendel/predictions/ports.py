"""What the log needs of an inbox, of a lake and of the state database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from mendel.predictions.entities import PendingSegment, ProfileRow, SegmentProfile, SpoolProgress
from mendel.values import Digest, ModelName, Table, Window

LABELS_TABLE = "labels"
"""The lake's table of labels, of all models."""


def predictions_table(model: ModelName) -> str:
    """
    The lake's table of one model's predictions.

    A table per model, since features of two models may share a name and differ in type, and since a model's rows are
    read, compacted and forgotten apart.
    """
    return f"predictions/{model}"


class SegmentInbox(Protocol):
    """
    Where sealed segments wait at the hub, until lake and profiles have them. Safe to share between threads.
    """

    def put(self, spool_id: str, seq: int, content: bytes, checksum: Digest) -> None:
        """
        Keep a sealed segment, durably when this returns; the same again changes nothing.

        Segments may arrive in any order and concurrently; a segment that was shipped and removed may come again.

        Raises:
            DigestMismatch: *content* does not have *checksum*: it was changed on the way.
            SegmentCorrupt: It is not a whole sealed segment of *spool_id* and *seq*.
            AlreadyExists: Another content waits under that number.
        """

    def pending(self) -> tuple[PendingSegment, ...]:
        """Every segment that waits, by spool and sequence."""

    def read(self, spool_id: str, seq: int) -> bytes | None:
        """The bytes that were put, or None when the segment was removed (or never put)."""

    def remove(self, spool_id: str, seq: int) -> None:
        """Forget the segment; no error when it is gone."""


class LakeSnapshot(Protocol):
    """One table at one version: marks and rows belong together, whatever is appended meanwhile."""

    def shipped(self, spool_id: str) -> int:
        """The sequence number of the newest segment of the spool whose rows are in the table; 0 for none."""

    def read(
        self,
        window: Window | None = None,
        *,
        columns: Sequence[str] | None = None,
        prediction_ids: Sequence[str] | None = None,
    ) -> Table:
        """
        Rows whose ``event_time`` lies in *window* (None: all), in no particular order.

        Args:
            columns: Only these, in this order; one that the table lacks is missing in every row. None: all.
            prediction_ids: Only rows of these.
        """

    def count(self) -> int:
        """How many rows the table holds."""


class Lake(Protocol):
    """
    Append-only tables of rows, partitioned by the UTC day of their ``event_time`` (``int64`` microseconds), which
    every row has. Schemas evolve: a table has every column it was ever given, and a name may even change its type.

    Every method raises StoreUnavailable when the store does not answer.
    """

    def tables(self) -> tuple[str, ...]:
        """The names of all tables, sorted."""

    def snapshot(self, table: str) -> LakeSnapshot:
        """The table as it is now; a table that was never written to is empty."""

    def shipped(self, table: str, spool_id: str) -> int:
        """``snapshot(table).shipped(spool_id)``."""

    def append(self, table: str, rows: Table, *, marks: Mapping[str, int], seen: Mapping[str, int]) -> None:
        """
        Add *rows* and move the marks of their spools, as one commit: both or neither.

        Args:
            marks: For each spool among the rows, the newest sequence number among its segments.
            seen: For each of these spools, the mark the caller saw when it chose the rows: the commit is a
                compare-and-set on it.

        Raises:
            Fenced: A mark is not the one seen: somebody else ships, and these rows may be in already.
        """

    def forget(self, table: str, prediction_ids: Sequence[str]) -> int:
        """
        Delete the rows of these predictions; how many there were.

        Their bytes leave the disk with the next :meth:`vacuum`.
        """

    def expire(self, table: str, before: datetime) -> int:
        """Delete the rows of whole days that ended before or at *before*, but those of 1970 (no time); how many."""

    def compact(self, table: str) -> int:
        """Join small files; how many were replaced. Rows and marks stay; concurrent appends are safe."""

    def vacuum(self, table: str, keep: timedelta) -> int:
        """Delete files that no version younger than *keep* refers to; how many."""


class ProfileStore(Protocol):
    """Profiles of shipped segments and how far each spool is (``tx.store(ProfileStore)``)."""

    def add(self, profiles: Sequence[SegmentProfile]) -> int:
        """
        Insert rows keyed (spool, seq, model, version, reference, window); one whose key exists is ignored.

        Returns:
            How many were new.
        """

    def rows(self, model: ModelName, version: int, reference_id: str, window: Window) -> tuple[ProfileRow, ...]:
        """Rows whose own window starts in *window*, by start, spool and sequence."""

    def progress(self, spool_id: str) -> int:
        """The newest segment of the spool whose profiles are recorded; 0 for none."""

    def advance(self, spool_id: str, seq: int, at: datetime) -> None:
        """Set the progress and its time; a smaller number than there is changes nothing."""

    def spools(self) -> tuple[SpoolProgress, ...]:
        """How far every spool is, by id."""

    def expire(self, before: datetime) -> int:
        """Delete rows whose window ended before or at *before*; how many."""
