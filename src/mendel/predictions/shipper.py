"""The shipper moves segments from the inbox into the lake and their profiles into the database, exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby

from mendel.durable import Transaction, UnitOfWork
from mendel.errors import SegmentCorrupt
from mendel.predictions.entities import PendingSegment, ProfileRow, SegmentProfile
from mendel.predictions.lake_rows import SegmentRows, segment_rows
from mendel.predictions.ports import LABELS_TABLE, Lake, ProfileStore, SegmentInbox
from mendel.predictions.segments import parse_segment
from mendel.values import ModelName, Table

Summarise = Callable[[ModelName, int, Table], Sequence[ProfileRow]]
"""Computes the profiles of one version's rows, one per reference and window of time; equal rows give equal profiles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipReport:
    """
    The counts of one pass of the shipper.

    Attributes:
        segments: Segments whose rows and profiles were stored and which were then removed from the inbox.
        rows: Rows appended to the lake, labels included; rows that were there already are not counted.
        profiles: New profiles.
        waiting: Segments that wait for an earlier segment of their spool.
        corrupt: Unreadable segments; no later segment of their spools is shipped until they are sent again.
    """

    segments: int = 0
    rows: int = 0
    profiles: int = 0
    waiting: int = 0
    corrupt: tuple[PendingSegment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolPlan:
    """
    The decision about the segments of a spool.

    Attributes:
        recorded: Segments that are stored already, to be removed.
        next: Segments that follow without a gap, to be shipped.
        waiting: Segments after a gap.
    """

    recorded: tuple[PendingSegment, ...]
    next: tuple[PendingSegment, ...]
    waiting: tuple[PendingSegment, ...]


def plan_spool(pending: Iterable[PendingSegment], progress: int) -> SpoolPlan:
    """Decide which segments of one spool to ship; *pending* is sorted by sequence number."""
    recorded, following, waiting = [], [], []
    expected = progress + 1
    for segment in pending:
        if segment.seq <= progress:
            recorded.append(segment)
        elif segment.seq == expected:
            following.append(segment)
            expected += 1
        else:
            waiting.append(segment)
    return SpoolPlan(recorded=tuple(recorded), next=tuple(following), waiting=tuple(waiting))


def model_rows(rows: SegmentRows) -> Iterable[tuple[ModelName, Table]]:
    """Yield the prediction rows of a segment for each model."""
    for name, table in rows.tables.items():
        if name != LABELS_TABLE:
            yield ModelName(name.rpartition("/")[2]), table


def segment_profiles(rows: SegmentRows, summarise: Summarise) -> tuple[SegmentProfile, ...]:
    """Compute the profiles of a segment's rows for each version, without quarantined rows."""
    return tuple(
        SegmentProfile(spool_id=rows.spool_id, seq=rows.seq, row=profile)
        for model, table in model_rows(rows)
        for version in sorted({int(number) for number in table["version"]})
        for profile in summarise(model, version, _countable(table, version))
    )


def _countable(table: Table, version: int) -> Table:
    return table.take((table["version"] == version) & ~table["quarantined"])


@dataclass(frozen=True, slots=True, kw_only=True)
class _LoadedSegments:
    """The decoded segments of one pass."""

    segments: tuple[SegmentRows, ...]
    corrupt: tuple[PendingSegment, ...]
    waiting: int


@dataclass(frozen=True, slots=True)
class Shipper:
    """
    Ships the segments in the inbox. After a kill at any point, the next pass completes the work without duplicates.

    A pass first appends rows and marks to the lake, one commit per table. Then it stores profiles and progress in the
    database in one transaction. Then it removes the segments. The first two steps skip data that is stored already.
    Only one shipper may run: *unit* is fenced by a lease, and the lake compares marks before it appends.

    Attributes:
        max_bytes: The largest total size of the segments that one pass reads into memory.
        at: Called at the points ``before:append``, ``after:append``, ``after:profiles`` and ``after:remove``, so that
            tests can kill the process there.
    """

    inbox: SegmentInbox
    lake: Lake
    unit: UnitOfWork
    summarise: Summarise
    max_bytes: int = field(default=256 << 20, kw_only=True)
    at: Callable[[str], None] = field(default=lambda _: None, kw_only=True)

    def ship(self, now: datetime) -> ShipReport:
        """
        Make one pass over all spools; *now* is stored as the time of their progress.

        Raises:
            Fenced: The lease was lost, or another process ships; no row is stored twice.
            StoreUnavailable: Lake or database do not answer; the next pass continues.
        """
        load = self._load(self._plans())
        if not load.segments:
            return ShipReport(waiting=load.waiting, corrupt=load.corrupt)
        self.unit.write(lambda _: None)  # raises Fenced before the lake is touched
        names = sorted({name for segment in load.segments for name in segment.tables})
        rows = sum(self._append(name, load.segments) for name in names)
        profiles = self._record(load.segments, now)
        self.at("after:profiles")
        for segment in load.segments:
            self.inbox.remove(segment.spool_id, segment.seq)
            self.at("after:remove")
        return ShipReport(
            segments=len(load.segments), rows=rows, profiles=profiles, waiting=load.waiting, corrupt=load.corrupt
        )

    def _plans(self) -> tuple[SpoolPlan, ...]:
        spools = {name: tuple(group) for name, group in groupby(self.inbox.pending(), key=lambda s: s.spool_id)}
        progress = self.unit.read(lambda tx: {name: tx.store(ProfileStore).progress(name) for name in spools})
        return tuple(self._plan(pending, progress[name]) for name, pending in spools.items())

    def _plan(self, pending: tuple[PendingSegment, ...], progress: int) -> SpoolPlan:
        """Plan one spool. At a gap the lake's marks count, because a restored database may be older than the lake."""
        if pending[0].seq > progress + 1:
            spool_id = pending[0].spool_id
            marks = [self.lake.shipped(table, spool_id) for table in self.lake.tables()]
            progress = max(progress, min(pending[0].seq - 1, max(marks, default=0)))
        return plan_spool(pending, progress)

    def _load(self, plans: Sequence[SpoolPlan]) -> _LoadedSegments:
        segments: list[SegmentRows] = []
        corrupt: list[PendingSegment] = []
        waiting = sum(len(plan.waiting) for plan in plans)
        room = self.max_bytes
        for plan in plans:
            for known in plan.recorded:
                self.inbox.remove(known.spool_id, known.seq)
            for segment in plan.next:
                if segments and segment.size_bytes > room:
                    break
                content = self.inbox.read(segment.spool_id, segment.seq)
                if content is None:
                    break
                try:
                    segments.append(segment_rows(parse_segment(content, name=f"{segment.spool_id}/{segment.seq}")))
                except SegmentCorrupt:
                    corrupt.append(segment)
                    break
                room -= segment.size_bytes
        return _LoadedSegments(segments=tuple(segments), corrupt=tuple(corrupt), waiting=waiting)

    def _append(self, name: str, segments: Sequence[SegmentRows]) -> int:
        snapshot = self.lake.snapshot(name)
        seen = {s.spool_id: snapshot.shipped(s.spool_id) for s in segments}
        fresh = [s for s in segments if name in s.tables and s.seq > seen[s.spool_id]]
        if not fresh:
            return 0
        rows = Table.concat([s.tables[name] for s in fresh])
        marks = {s.spool_id: max(other.seq for other in fresh if other.spool_id == s.spool_id) for s in fresh}
        self.at("before:append")
        self.lake.append(name, rows, marks=marks, seen={spool: seen[spool] for spool in marks})
        self.at("after:append")
        return len(rows)

    def _record(self, segments: Sequence[SegmentRows], now: datetime) -> int:
        profiles = [profile for segment in segments for profile in segment_profiles(segment, self.summarise)]
        reached: Mapping[str, int] = {s.spool_id: s.seq for s in segments}

        def record(tx: Transaction) -> int:
            store = tx.store(ProfileStore)
            for spool_id, seq in reached.items():
                store.advance(spool_id, seq, now)
            return store.add(profiles)

        return self.unit.write(record)
