"""The ports of the prediction log: the inbox of segments, the lake, and the store of profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from mendel.predictions.entities import PendingSegment, ProfileRow, SegmentProfile, SpoolProgress
from mendel.values import Digest, ModelName, Table, Window

LABELS_TABLE = "labels"
"""The name of the lake's table of labels, which all models share."""


def predictions_table(model: ModelName) -> str:
    """
    Give the name of the lake's table of one model's predictions.

    Each model has its own table, because features of two models may have one name and different types, and because
    rows are read, compacted and deleted per model.
    """
    return f"predictions/{model}"


class SegmentInbox(Protocol):
    """
    Stores sealed segments at the hub until their rows are in the lake and their profiles in the database.

    Threads may share one instance.
    """

    def put(self, spool_id: str, seq: int, content: bytes, checksum: Digest) -> None:
        """
        Store a sealed segment durably; storing the same segment again changes nothing.

        Segments may arrive in any order and concurrently. A segment that was shipped and removed may arrive again.

        Raises:
            DigestMismatch: *content* does not have *checksum*: it was changed in transit.
            SegmentCorrupt: *content* is not a complete sealed segment of *spool_id* and *seq*.
            AlreadyExists: A segment with this number and other content is stored.
        """

    def pending(self) -> tuple[PendingSegment, ...]:
        """List every stored segment, sorted by spool and sequence number."""

    def read(self, spool_id: str, seq: int) -> bytes | None:
        """Give the bytes of a segment; None when it is not stored."""

    def remove(self, spool_id: str, seq: int) -> None:
        """Remove a segment; no error when it is not stored."""


class LakeSnapshot(Protocol):
    """
    One table of the lake at one version; later appends do not change it.

    The mark of a spool is the sequence number of its newest segment whose rows are in the table.
    """

    def shipped(self, spool_id: str) -> int:
        """Give the mark of a spool; 0 when the table has no rows of the spool."""

    def read(
        self,
        window: Window | None = None,
        *,
        columns: Sequence[str] | None = None,
        prediction_ids: Sequence[str] | None = None,
    ) -> Table:
        """
        Read the rows whose ``event_time`` lies in *window* (None: all rows), in no particular order.

        Args:
            columns: Give only these columns, in this order; None gives all columns. A column that the table lacks is
                filled with missing values.
            prediction_ids: Give only the rows of these predictions; None gives all rows.
        """

    def count(self) -> int:
        """Count the rows of the table."""


class Lake(Protocol):
    """
    Append-only tables of rows, partitioned by the UTC day of ``event_time`` (``int64`` microseconds, in every row).

    Schemas evolve: a table has every column that was ever appended, and a column may change its type. Every method
    raises StoreUnavailable when the store does not answer.
    """

    def tables(self) -> tuple[str, ...]:
        """List the names of all tables, sorted."""

    def snapshot(self, table: str) -> LakeSnapshot:
        """Open the current version of a table; an unknown table is empty."""

    def shipped(self, table: str, spool_id: str) -> int:
        """Give the mark of a spool in the current version of a table."""

    def append(self, table: str, rows: Table, *, marks: Mapping[str, int], seen: Mapping[str, int]) -> None:
        """
        Append *rows* and set the marks of their spools in one commit.

        Args:
            marks: For each spool among the rows, the highest sequence number among its segments.
            seen: For each of these spools, the mark that the caller read when it chose the rows; the commit compares
                it with the current mark.

        Raises:
            Fenced: A current mark differs from *seen*: another process ships, and these rows may be stored already.
        """

    def forget(self, table: str, prediction_ids: Sequence[str]) -> int:
        """
        Delete the rows of these predictions; give the number of deleted rows.

        A later :meth:`vacuum` removes their bytes from the disk.
        """

    def expire(self, table: str, before: datetime) -> int:
        """
        Delete the rows of days that ended at or before *before*; give the number of deleted rows.

        Rows of the first day of 1970, which have no time, are kept.
        """

    def compact(self, table: str) -> int:
        """Merge small files, also during appends, without changing rows or marks; give the number of merged files."""

    def vacuum(self, table: str, keep: timedelta) -> int:
        """Delete files that no table version younger than *keep* uses; give the number of deleted files."""


class ProfileStore(Protocol):
    """Stores the profiles of shipped segments, and the progress of each spool (``tx.store(ProfileStore)``)."""

    def add(self, profiles: Sequence[SegmentProfile]) -> int:
        """
        Insert profiles with the key (spool, seq, model, version, reference, window); an existing key is ignored.

        Returns:
            The number of new profiles.
        """

    def rows(self, model: ModelName, version: int, reference_id: str, window: Window) -> tuple[ProfileRow, ...]:
        """Give the profiles whose own window starts in *window*, sorted by start, spool and sequence number."""

    def progress(self, spool_id: str) -> int:
        """Give the number of the spool's newest segment whose profiles are stored; 0 for none."""

    def advance(self, spool_id: str, seq: int, at: datetime) -> None:
        """Set the progress of a spool and its time; a number below the current progress changes nothing."""

    def spools(self) -> tuple[SpoolProgress, ...]:
        """List the progress of every spool, sorted by id."""

    def expire(self, before: datetime) -> int:
        """Delete the profiles whose window ended at or before *before*; give the number of deleted profiles."""
