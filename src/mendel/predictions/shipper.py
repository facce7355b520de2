"""The shipper: segments from the inbox into the lake and their profiles into the database, each exactly once."""

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
"""Profiles of rows of one version, one per reference and grain of time; a pure function of the rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """
    What one pass did.

    Attributes:
        segments: Segments recorded in lake and profiles and removed.
        rows: Rows appended, labels included; rows that were in the lake already are not counted.
        profiles: Profile rows that were new.
        waiting: Segments that wait for an earlier one of their spool.
        corrupt: Segments that cannot be read; their spools stand still until they are put again.
    """

    segments: int = 0
    rows: int = 0
    profiles: int = 0
    waiting: int = 0
    corrupt: tuple[PendingSegment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolPlan:
    """What to do with the segments of a spool: drop what is recorded, ship what follows without a gap."""

    recorded: tuple[PendingSegment, ...]
    next: tuple[PendingSegment, ...]
    waiting: tuple[PendingSegment, ...]


def plan_spool(pending: Iterable[PendingSegment], progress: int) -> SpoolPlan:
    """Decide about the segments of one spool, given in order of sequence."""
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
    """The prediction rows of a segment, by model."""
    for name, table in rows.tables.items():
        if name != LABELS_TABLE:
            yield ModelName(name.rpartition("/")[2]), table


def segment_profiles(rows: SegmentRows, summarise: Summarise) -> tuple[SegmentProfile, ...]:
    """The profiles of a segment's rows, version by version; quarantined rows are in none."""
    return tuple(
        SegmentProfile(spool_id=rows.spool_id, seq=rows.seq, row=profile)
        for model, table in model_rows(rows)
        for version in sorted({int(number) for number in table["version"]})
        for profile in summarise(model, version, _countable(table, version))
    )


def _countable(table: Table, version: int) -> Table:
    return table.take((table["version"] == version) & ~table["quarantined"])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    """The segments of one pass, read."""

    segments: tuple[SegmentRows, ...]
    corrupt: tuple[PendingSegment, ...]
    waiting: int


@dataclass(frozen=True, slots=True)
class Shipper:
    """
    Ships what waits; killed at any instant, the next pass ends as if nothing had happened.

    The order is: rows and marks into the lake, one commit per table; profiles and progress into the database, one
    transaction; then the segments go. Each of the first two skips what it already has. Run one at a time, under a
    lease: *unit* is fenced by it, and the lake's marks are compare-and-set besides.

    Attributes:
        max_bytes: Bound on the segments taken into memory in one pass.
        at: Called at named points, for tests that kill there: ``before:append``, ``after:append``,
            ``after:profiles``, ``after:remove``.
    """

    inbox: SegmentInbox
    lake: Lake
    unit: UnitOfWork
    summarise: Summarise
    max_bytes: int = field(default=256 << 20, kw_only=True)
    at: Callable[[str], None] = field(default=lambda _: None, kw_only=True)

    def ship(self, now: datetime) -> Shipped:
        """
        Make one pass over all spools; *now* is noted as the time of their progress.

        Raises:
            Fenced: The lease was lost, or somebody else ships; nothing of what they ship is doubled.
            StoreUnavailable: Lake or database do not answer; the next pass goes on.
        """
        load = self._load(self._plans())
        if not load.segments:
            return Shipped(waiting=load.waiting, corrupt=load.corrupt)
        self.unit.write(lambda _: None)  # raises Fenced before the lake is touched
        names = sorted({name for segment in load.segments for name in segment.tables})
        rows = sum(self._append(name, load.segments) for name in names)
        profiles = self._record(load.segments, now)
        self.at("after:profiles")
        for segment in load.segments:
            self.inbox.remove(segment.spool_id, segment.seq)
            self.at("after:remove")
        return Shipped(
            segments=len(load.segments), rows=rows, profiles=profiles, waiting=load.waiting, corrupt=load.corrupt
        )

    def _plans(self) -> tuple[SpoolPlan, ...]:
        spools = {name: tuple(group) for name, group in groupby(self.inbox.pending(), key=lambda s: s.spool_id)}
        progress = self.unit.read(lambda tx: {name: tx.store(ProfileStore).progress(name) for name in spools})
        return tuple(self._plan(pending, progress[name]) for name, pending in spools.items())

    def _plan(self, pending: tuple[PendingSegment, ...], progress: int) -> SpoolPlan:
        """A gap may also mean that the database is older than the lake (restored): the lake's marks then know."""
        if pending[0].seq > progress + 1:
            spool_id = pending[0].spool_id
            marks = [self.lake.shipped(table, spool_id) for table in self.lake.tables()]
            progress = max(progress, min(pending[0].seq - 1, max(marks, default=0)))
        return plan_spool(pending, progress)

    def _load(self, plans: Sequence[SpoolPlan]) -> _Load:
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
        return _Load(segments=tuple(segments), corrupt=tuple(corrupt), waiting=waiting)

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
