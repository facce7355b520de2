"""Maintenance of the lake: delete old days, merge small files, and remove deleted rows from the disk."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from mendel.durable import UnitOfWork
from mendel.predictions.ports import Lake, ProfileStore


@dataclass(frozen=True, slots=True, kw_only=True)
class LakePolicy:
    """
    How long the lake keeps rows and files.

    Attributes:
        retention: Days of rows and profiles older than this are deleted.
        keep_files: Files that no table version younger than this needs are deleted; an append that takes longer than
            this would lose its files.
    """

    retention: timedelta = timedelta(days=90)
    keep_files: timedelta = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaintenanceReport:
    """The counts of one maintenance round: expired rows and profiles, merged and deleted files."""

    rows_expired: int
    profiles_expired: int
    files_joined: int
    files_deleted: int


def maintain_lake(lake: Lake, unit: UnitOfWork, policy: LakePolicy, now: datetime) -> MaintenanceReport:
    """Run one maintenance round over all tables, about once an hour; a shipper may run at the same time."""
    before = now - policy.retention
    tables = lake.tables()
    rows = sum(lake.expire(table, before) for table in tables)
    joined = sum(lake.compact(table) for table in tables)
    deleted = sum(lake.vacuum(table, policy.keep_files) for table in tables)
    profiles = unit.write(lambda tx: tx.store(ProfileStore).expire(before))
    return MaintenanceReport(rows_expired=rows, profiles_expired=profiles, files_joined=joined, files_deleted=deleted)


def forget_predictions(lake: Lake, prediction_ids: tuple[str, ...]) -> int:
    """
    Delete the rows and labels of these predictions from every table; give the number of deleted rows.

    Ship first: rows in spools and in the inbox are not deleted. The first :func:`maintain_lake` after ``keep_files``
    removes the bytes from the disk. Profiles stay, because they hold counts, not rows.
    """
    return sum(lake.forget(table, prediction_ids) for table in lake.tables())
