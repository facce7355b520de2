"""Inbox, lake and profiles in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from mendel.adapters.memory.tables import MemoryTables
from mendel.errors import AlreadyExists, Fenced
from mendel.predictions import (
    PendingSegment,
    ProfileRow,
    ProfileStore,
    SegmentProfile,
    SpoolProgress,
    check_segment,
    filter_rows,
    rows_with_ids,
)
from mendel.values import Digest, ModelName, Table, Window, to_micros

_DAY_MICROS = 86_400_000_000
Chosen = NDArray[np.bool_]


class MemoryInbox:
    """Implements :class:`mendel.predictions.SegmentInbox`."""

    def __init__(self) -> None:
        self._segments: dict[tuple[str, int], tuple[bytes, Digest]] = {}
        self._mutex = Lock()

    def put(self, spool_id: str, seq: int, content: bytes, checksum: Digest) -> None:
        check_segment(spool_id, seq, content, checksum)
        with self._mutex:
            known = self._segments.setdefault((spool_id, seq), (content, checksum))
        if known[1] != checksum:
            raise AlreadyExists(f"The hub already holds segment {seq} of spool {spool_id} with other content.")

    def pending(self) -> tuple[PendingSegment, ...]:
        with self._mutex:
            items = sorted(self._segments.items())
        return tuple(
            PendingSegment(spool_id=spool_id, seq=seq, size_bytes=len(content))
            for (spool_id, seq), (content, _) in items
        )

    def read(self, spool_id: str, seq: int) -> bytes | None:
        found = self._segments.get((spool_id, seq))
        return None if found is None else found[0]

    def remove(self, spool_id: str, seq: int) -> None:
        with self._mutex:
            self._segments.pop((spool_id, seq), None)


@dataclass(frozen=True, slots=True)
class MemoryLakeSnapshot:
    """Implements :class:`mendel.predictions.LakeSnapshot`."""

    rows: Table
    marks: Mapping[str, int]

    def shipped(self, spool_id: str) -> int:
        return self.marks.get(spool_id, 0)

    def read(
        self,
        window: Window | None = None,
        *,
        columns: Sequence[str] | None = None,
        prediction_ids: Sequence[str] | None = None,
    ) -> Table:
        return filter_rows(self.rows, window, columns, prediction_ids)

    def count(self) -> int:
        return len(self.rows)


_NOTHING = MemoryLakeSnapshot(Table({}), {})


class MemoryLake:
    """Implements :class:`mendel.predictions.Lake`; there are no files, so compacting and vacuuming find none."""

    def __init__(self) -> None:
        self._tables: dict[str, MemoryLakeSnapshot] = {}
        self._mutex = Lock()

    def tables(self) -> tuple[str, ...]:
        return tuple(sorted(self._tables))

    def snapshot(self, table: str) -> MemoryLakeSnapshot:
        return self._tables.get(table, _NOTHING)

    def shipped(self, table: str, spool_id: str) -> int:
        return self.snapshot(table).shipped(spool_id)

    def append(self, table: str, rows: Table, *, marks: Mapping[str, int], seen: Mapping[str, int]) -> None:
        with self._mutex:
            now = self.snapshot(table)
            for spool_id in marks:
                if now.shipped(spool_id) != seen.get(spool_id, 0):
                    raise Fenced(f"Another process appended segments of spool {spool_id} to the lake table {table}.")
            self._tables[table] = MemoryLakeSnapshot(Table.concat([now.rows, rows]), {**now.marks, **marks})

    def forget(self, table: str, prediction_ids: Sequence[str]) -> int:
        return self._delete(table, lambda rows: rows_with_ids(rows, prediction_ids))

    def expire(self, table: str, before: datetime) -> int:
        """Delete the rows of whole days that ended; rows without a time (1970) stay."""
        last = to_micros(before) // _DAY_MICROS

        def over(rows: Table) -> Chosen:
            day = rows["event_time"] // _DAY_MICROS
            return (day < last) & (day > 0)

        return self._delete(table, over)

    def compact(self, table: str) -> int:  # noqa: ARG002 - of the port
        return 0

    def vacuum(self, table: str, keep: timedelta) -> int:  # noqa: ARG002 - of the port
        return 0

    def _delete(self, table: str, choose: Callable[[Table], Chosen]) -> int:
        with self._mutex:
            now = self.snapshot(table)
            if not len(now.rows):
                return 0
            gone = choose(now.rows)
            self._tables[table] = MemoryLakeSnapshot(now.rows.take(~gone), now.marks)
            return int(gone.sum())


class MemoryProfileStore:
    """Implements :class:`mendel.predictions.ProfileStore`."""

    def __init__(self, tables: MemoryTables) -> None:
        self._profiles: dict[tuple[object, ...], SegmentProfile] = tables.table("segment_profiles")
        self._progress: dict[str, SpoolProgress] = tables.table("spool_progress")

    def add(self, profiles: Sequence[SegmentProfile]) -> int:
        before = len(self._profiles)
        for profile in profiles:
            self._profiles.setdefault(profile.key, profile)
        return len(self._profiles) - before

    def rows(self, model: ModelName, version: int, reference_id: str, window: Window) -> tuple[ProfileRow, ...]:
        found = [
            profile
            for profile in self._profiles.values()
            if (profile.row.model, profile.row.version, profile.row.reference_id) == (model, version, reference_id)
            and profile.row.window.start in window
        ]
        return tuple(p.row for p in sorted(found, key=lambda p: (p.row.window, p.spool_id, p.seq)))

    def progress(self, spool_id: str) -> int:
        found = self._progress.get(spool_id)
        return 0 if found is None else found.seq

    def advance(self, spool_id: str, seq: int, at: datetime) -> None:
        if seq > self.progress(spool_id):
            self._progress[spool_id] = SpoolProgress(spool_id=spool_id, seq=seq, at=at)

    def spools(self) -> tuple[SpoolProgress, ...]:
        return tuple(self._progress[name] for name in sorted(self._progress))

    def expire(self, before: datetime) -> int:
        old = [key for key, profile in self._profiles.items() if profile.row.window.end <= before]
        for key in old:
            del self._profiles[key]
        return len(old)


STORES: dict[type, Callable[[MemoryTables], object]] = {ProfileStore: MemoryProfileStore}
