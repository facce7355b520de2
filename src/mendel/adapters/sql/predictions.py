"""Profiles of received prediction segments, and the position of each spool, in the state database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from sqlalchemy import BigInteger, Column, Connection, Index, Integer, String, Table, Text, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from mendel.adapters.sql.table_metadata import metadata
from mendel.predictions import ProfileRow, ProfileStore, SegmentProfile, SpoolProgress
from mendel.values import ModelName, Window, from_micros, to_micros

profiles = Table(
    "segment_profiles",
    metadata,
    Column("spool_id", String(128), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("model", String(128), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("reference_id", String(128), primary_key=True),
    Column("window_start", BigInteger, primary_key=True, autoincrement=False),
    Column("window_end", BigInteger, primary_key=True, autoincrement=False),
    Column("profile", Text, nullable=False),
)
Index(
    "segment_profiles_by_window",
    profiles.c.model,
    profiles.c.version,
    profiles.c.reference_id,
    profiles.c.window_start,
)
progress = Table(
    "spool_progress",
    metadata,
    Column("spool_id", String(128), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("at", BigInteger, nullable=False),
)


class SqlProfileStore:
    """Implements :class:`mendel.predictions.ProfileStore`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert

    def add(self, rows: Sequence[SegmentProfile]) -> int:
        return sum(self._add(row) for row in rows)

    def rows(self, model: ModelName, version: int, reference_id: str, window: Window) -> tuple[ProfileRow, ...]:
        c = profiles.c
        query = (
            select(c.window_start, c.window_end, c.profile)
            .where(c.model == str(model), c.version == version, c.reference_id == reference_id)
            .where(c.window_start >= to_micros(window.start), c.window_start < to_micros(window.end))
            .order_by(c.window_start, c.window_end, c.spool_id, c.seq)
        )
        return tuple(
            ProfileRow(
                model=model,
                version=version,
                reference_id=reference_id,
                window=Window(from_micros(start), from_micros(end)),
                profile=profile,
            )
            for start, end, profile in self._connection.execute(query)
        )

    def progress(self, spool_id: str) -> int:
        found = self._connection.execute(select(progress.c.seq).where(progress.c.spool_id == spool_id)).scalar()
        return 0 if found is None else int(found)

    def advance(self, spool_id: str, seq: int, at: datetime) -> None:
        new = self._insert(progress).values(spool_id=spool_id, seq=seq, at=to_micros(at))
        self._connection.execute(
            new.on_conflict_do_update(
                index_elements=[progress.c.spool_id],
                set_={"seq": new.excluded.seq, "at": new.excluded["at"]},
                where=progress.c.seq < new.excluded.seq,
            )
        )

    def spools(self) -> tuple[SpoolProgress, ...]:
        query = select(progress.c.spool_id, progress.c.seq, progress.c["at"]).order_by(progress.c.spool_id)
        return tuple(
            SpoolProgress(spool_id=spool_id, seq=seq, at=from_micros(at))
            for spool_id, seq, at in self._connection.execute(query)
        )

    def expire(self, before: datetime) -> int:
        return self._connection.execute(delete(profiles).where(profiles.c.window_end <= to_micros(before))).rowcount

    def _add(self, profile: SegmentProfile) -> int:
        row = profile.row
        new = self._insert(profiles).values(
            spool_id=profile.spool_id,
            seq=profile.seq,
            model=str(row.model),
            version=row.version,
            reference_id=row.reference_id,
            window_start=to_micros(row.window.start),
            window_end=to_micros(row.window.end),
            profile=row.profile,
        )
        # PostgreSQL's driver reports -1 as row count here, so the returned rows are counted
        return len(self._connection.execute(new.on_conflict_do_nothing().returning(profiles.c.seq)).all())


STORES: dict[type, Callable[[Connection], object]] = {ProfileStore: SqlProfileStore}
