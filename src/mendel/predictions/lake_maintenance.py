"""Retention and tidiness of the lake: old days go, small files are joined, forgotten bytes leave the disk."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from mendel.durable import UnitOfWork
from mendel.predictions.ports import Lake, ProfileStore


@dataclass(frozen=True, slots=True, kw_only=True)
class LakePolicy:
    """
    How long the log is kept.

    Attributes:
        retention: Whole days older than this go, profiles too.
        keep_files: Files that no version younger than this needs are deleted; an append that takes longer than this
            would lose its files.
    """

    retention: timedelta = timedelta(days=90)
    keep_files: timedelta = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What one round of upkeep did: rows and profiles expired, files joined and deleted."""

    rows_expired: int
    profiles_expired: int
    files_joined: int
    files_deleted: int


def tidy_lake(lake: Lake, unit: UnitOfWork, policy: LakePolicy, now: datetime) -> Kept:
    """Make one round over all tables; safe beside a shipper, and about once an hour is enough."""
    before = now - policy.retention
    tables = lake.tables()
    rows = sum(lake.expire(table, before) for table in tables)
    joined = sum(lake.compact(table) for table in tables)
    deleted = sum(lake.vacuum(table, policy.keep_files) for table in tables)
    profiles = unit.write(lambda tx: tx.store(ProfileStore).expire(before))
    return Kept(rows_expired=rows, profiles_expired=profiles, files_joined=joined, files_deleted=deleted)


def forget(lake: Lake, prediction_ids: tuple[str, ...]) -> int:
    """
    Delete the rows and labels of these predictions from every table; how many rows there were.

    Ship first: what still waits in spools and inbox is not reached. The bytes leave the disk with the next
    :func:`tidy_lake` after ``keep_files``. Profiles stay: they hold counts, not rows.
    """
    return sum(lake.forget(table, prediction_ids) for table in lake.tables())
