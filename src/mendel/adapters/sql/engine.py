"""Open connections to the state database, and translate its errors into Mendel's errors."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from mendel.errors import Conflict, Corrupt, InvalidSettings, StoreUnavailable

READS = "mendel_reads"
"""The execution option for connections that only read; all other connections use BEGIN IMMEDIATE."""

_NETWORK_FILE_SYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "afs", "ceph", "glusterfs", "lustre", "gpfs", "beegfs", "ncpfs"}
    | {f"fuse.{name}" for name in ("sshfs", "glusterfs", "ceph", "s3fs", "rclone", "gcsfuse")}
)
_SERIALISATION_FAILURES = frozenset({"40001", "40P01", "55P03"})
_UNIQUE_VIOLATION = "23505"


def open_engine(where: Path | str, *, busy_timeout: timedelta = timedelta(seconds=3)) -> Engine:
    """
    Open the state database; the caller must dispose of the engine.

    Args:
        where: The path of a SQLite file, or a PostgreSQL URL.
        busy_timeout: How long SQLite waits for another writer before it reports busy.

    Raises:
        InvalidSettings: The file is on a network file system, or the URL is not for SQLite or PostgreSQL.
    """
    text = str(where)
    if "://" not in text:
        return _open_sqlite(Path(text), busy_timeout)
    url = make_url(text)
    backend = url.get_backend_name()
    if backend == "sqlite" and url.database:
        return _open_sqlite(Path(url.database), busy_timeout)
    if backend not in {"postgresql", "postgres"}:
        raise InvalidSettings(f"The database kind {backend!r} is not supported.", remedy="Use SQLite or PostgreSQL.")
    return create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True, isolation_level="SERIALIZABLE")


def is_contention(error: DBAPIError) -> bool:
    """
    Whether the transaction failed only because of another writer (busy, deadlock, not serialisable), so a retry may
    help.
    """
    vendor = error.orig
    if isinstance(vendor, sqlite3.Error):
        return _primary_code(vendor) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
    return getattr(vendor, "sqlstate", None) in _SERIALISATION_FAILURES


def may_be_contention(error: DBAPIError) -> bool:
    """
    Whether PostgreSQL reported a duplicate key, which a concurrent insert may have caused.

    In a retry, the transaction sees the other row, or the error shows that the transaction itself violates the key.
    """
    return getattr(error.orig, "sqlstate", None) == _UNIQUE_VIOLATION


@contextmanager
def translated() -> Iterator[None]:
    """
    Translate database errors into Mendel's errors.

    Errors of invalid SQL are not translated, because they are defects of Mendel.

    Raises:
        Conflict: The change violates a database constraint.
        Corrupt: The file is damaged or not a database.
        StoreUnavailable: The database does not answer, is full, or stayed busy.
    """
    try:
        yield
    except IntegrityError as error:
        raise Conflict(f"The database rejected the change: {error.orig}.") from error
    except PoolTimeout as error:
        raise StoreUnavailable(f"All database connections stayed in use until the timeout: {error}.") from error
    except DBAPIError as error:
        if _is_damage(error):
            raise Corrupt(
                f"The database is damaged: {error.orig}.", remedy="Restore the database from a backup."
            ) from error
        if _is_ours(error):
            raise
        raise StoreUnavailable(f"The database did not answer: {error.orig}.") from error


def file_system_of(path: Path, mounts: str) -> str:
    r"""
    Find the type of the file system that contains *path* in the text of ``/proc/mounts``; empty if unknown.

    >>> file_system_of(Path("/data/x/mendel.db"), "/dev/vda / ext4 rw 0 0\nserver:/e /data nfs4 rw 0 0")
    'nfs4'
    """
    best, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split()
        if len(fields) < 3:  # noqa: PLR2004 - device, mount point, type
            continue
        point = Path(fields[1].replace("\\040", " "))
        if path.is_relative_to(point) and len(point.parts) >= best:  # a later mount hides an earlier one
            best, kind = len(point.parts), fields[2]
    return kind


def _open_sqlite(path: Path, busy_timeout: timedelta) -> Engine:
    path = path.resolve()
    _refuse_network(path)
    engine = create_engine(f"sqlite:///{path}", pool_size=8, max_overflow=56)
    milliseconds = round(busy_timeout.total_seconds() * 1000)

    def on_connect(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # Mendel sends BEGIN, not the driver
        connection.execute(f"PRAGMA busy_timeout = {milliseconds}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")

    def on_begin(connection: Connection) -> None:
        reads = bool(connection.get_execution_options().get(READS))
        connection.exec_driver_sql(f"PRAGMA query_only = {int(reads)}")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", on_begin)
    return engine


def _refuse_network(path: Path) -> None:
    mounts = Path("/proc/mounts")
    if not mounts.exists():  # not Linux: the file system is unknown
        return
    kind = file_system_of(path, mounts.read_text())
    if kind in _NETWORK_FILE_SYSTEMS:
        raise InvalidSettings(
            f"The database {path} is on a network file system ({kind}), where SQLite may lose data.",
            remedy="Move the data directory to a local disk, and name the new directory with --directory.",
        )


def _primary_code(error: sqlite3.Error) -> int:
    code: Any = getattr(error, "sqlite_errorcode", 0)  # missing on errors that the driver raises
    return int(code) & 0xFF


def _is_damage(error: DBAPIError) -> bool:
    vendor = error.orig
    return isinstance(vendor, sqlite3.Error) and _primary_code(vendor) in {
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    }


def _is_ours(error: DBAPIError) -> bool:
    vendor = error.orig
    if isinstance(vendor, sqlite3.Error):
        return _primary_code(vendor) in {0, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_MISUSE}
    state = str(getattr(vendor, "sqlstate", None) or "")
    return state.startswith(("42", "25", "22"))  # SQL syntax and names, transaction state, invalid data
