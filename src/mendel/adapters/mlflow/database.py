"""
MLflow's SQLite database: written completely or not at all.

MLflow itself makes its tables step by step in the file, so that an interrupted start would leave a part of them, which
MLflow can neither use nor complete.
"""

from __future__ import annotations

import fcntl
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO

import structlog

from mendel.errors import StoreUnavailable
from mendel.values.atomic_files import replacing, translated_disk_errors

_log = structlog.get_logger("mendel.mlflow")
_NO_WORK = {"experiments": "name NOT IN ('Default', 'mendel')"}
"""The rows of a table that a start alone does not make; in tables that are not named here, every row is work."""
_WORK = ("experiments", "runs", "logged_models", "registered_models", "model_versions", "trace_info", "datasets")
_TURN = timedelta(seconds=60)
_WRITING = timedelta(seconds=5)
_PAUSE = timedelta(milliseconds=100)
_BESIDE = ("-wal", "-shm", "-journal")
"""The ends of the names of the files in which SQLite keeps changes that the database file lacks."""


@contextmanager
def alone(path: Path, patience: timedelta = _TURN) -> Iterator[None]:
    """
    Let one process at a time make or repair the database *path*.

    Raises:
        StoreUnavailable: Another process did not end this work within *patience*, or the lock file cannot be written.
    """
    name = path.with_name(f"{path.name}.lock")
    with translated_disk_errors(name, act="written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = name.open("a")
    with lock:
        for _ in range(patience // _PAUSE):
            if _taken(lock):
                break
            time.sleep(_PAUSE.total_seconds())
        else:
            if not _taken(lock):
                raise StoreUnavailable(
                    f"Another process has been opening MLflow's database {path} for more than "
                    f"{patience.total_seconds():.0f} s.",
                    remedy=f"Wait until the process is done, or stop it: fuser {name}",
                )
        yield


def _taken(lock: IO[str]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def exists(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def revision(path: Path, patience: timedelta) -> str | None:
    """
    Read the revision of MLflow's tables in the database *path*; None if the table of revisions is missing or empty.

    Args:
        patience: How long to wait while another program has locked the database.
    """
    uri = f"{path.absolute().as_uri()}?mode=rw"  # creates no file
    with closing(sqlite3.connect(uri, uri=True, timeout=patience.total_seconds())) as database:
        if not _has_table(database, "alembic_version"):
            return None
        found = database.execute("SELECT version_num FROM alembic_version").fetchone()
        return None if found is None else str(found[0])


def create(path: Path, template: Path | None) -> None:
    """
    Create the database *path* with all tables and no rows; changes of a former database at *path* are deleted.

    Args:
        template: A file with these tables, which is made if it is missing or damaged; None makes the tables in any
            case.
    """
    with replacing(path, mode=0o600) as draft:
        if template is None or not _copied(template, draft):
            _write_tables(draft)
        for end in _BESIDE:  # SQLite would apply them to the new file
            path.with_name(f"{path.name}{end}").unlink(missing_ok=True)


def replace_unused(path: Path, patience: timedelta = _WRITING) -> bool:
    """
    Replace a database without any work by a complete one, and keep the former file beside it as ``*.incomplete``.

    No other program can write to the database between the check and the replacement.

    Args:
        patience: How long to wait while another program writes to the database.

    Returns:
        False when the database holds work, such as a run or a model; it is then unchanged.
    """
    with closing(_tables()) as complete, closing(_writable(path, patience)) as database:
        database.execute("BEGIN IMMEDIATE")  # closing without COMMIT undoes everything
        if any(_holds_work(database, table) for table in _WORK):
            return False
        aside = path.with_name(f"{path.name}.incomplete")
        aside.unlink(missing_ok=True)
        with closing(sqlite3.connect(path)) as former, closing(sqlite3.connect(aside)) as kept:
            former.backup(kept)
        _replace_tables(database, complete)
        database.execute("COMMIT")
    _log.warning("incomplete_database_replaced", path=str(path), kept=str(aside))
    return True


def _writable(path: Path, patience: timedelta) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=patience.total_seconds(), isolation_level=None)


def _replace_tables(database: sqlite3.Connection, complete: sqlite3.Connection) -> None:
    """Replace all tables inside the open transaction, so that the connections that MLflow holds see all or nothing."""
    for (table,) in database.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~'"
    ).fetchall():
        database.execute(f'DROP TABLE "{table}"')
    for statement in complete.iterdump():
        if statement not in {"BEGIN TRANSACTION;", "COMMIT;"}:
            database.execute(statement)


def _has_table(database: sqlite3.Connection, table: str) -> bool:
    named = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return database.execute(named, (table,)).fetchone() is not None


def _holds_work(database: sqlite3.Connection, table: str) -> bool:
    condition = _NO_WORK.get(table, "1 = 1")
    found = f"SELECT 1 FROM {table} WHERE {condition} LIMIT 1"  # noqa: S608 - our own constants
    return _has_table(database, table) and database.execute(found).fetchone() is not None


def _copied(template: Path, draft: Path) -> bool:
    """Copy *template*, which is made if it is missing or damaged; False when it can be neither made nor read."""
    try:
        if not _is_whole(template):
            with replacing(template) as file:
                _write_tables(file)
        shutil.copyfile(template, draft)
    except (StoreUnavailable, OSError, sqlite3.Error):  # the user has no directory for caches, or its disk is full
        return False
    return True


def _is_whole(template: Path) -> bool:
    """Whether no page of *template* is damaged, as after a power loss, and its tables have a revision."""
    if not exists(template):
        return False
    try:
        with closing(sqlite3.connect(template)) as database:
            sound = database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
        return sound and revision(template, timedelta()) is not None
    except sqlite3.DatabaseError:
        return False


def _write_tables(path: Path) -> None:
    with closing(_tables()) as complete, closing(sqlite3.connect(path)) as target:
        complete.backup(target)


def _tables() -> sqlite3.Connection:
    """Let MLflow make its tables in memory; takes a second."""
    from mlflow.store.db import utils  # noqa: PLC0415 - takes seconds to import
    from sqlalchemy import create_engine  # noqa: PLC0415 - MLflow takes an engine
    from sqlalchemy.pool import StaticPool  # noqa: PLC0415

    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    try:
        utils._initialize_tables(engine)  # type: ignore[no-untyped-call]  # noqa: SLF001 - no public one takes an engine
        made: sqlite3.Connection = sqlite3.connect(":memory:", check_same_thread=False)
        with closing(engine.raw_connection()) as source:
            source.driver_connection.backup(made)  # type: ignore[union-attr]
    finally:
        engine.dispose()
    return made
