"""
MLflow's SQLite database: written completely or not at all.

MLflow itself makes its tables step by step in the file, so that an interrupted start would leave a part of them, which
MLflow can neither use nor complete.
"""

from __future__ import annotations

import fcntl
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import structlog

from mendel.errors import StoreUnavailable
from mendel.values.atomic_files import replacing

_log = structlog.get_logger("mendel.mlflow")
_NO_WORK = {"experiments": "name NOT IN ('Default', 'mendel')"}
"""The rows of a table that a start alone does not make; in tables that are not named here, every row is work."""
_WORK = ("experiments", "runs", "logged_models", "registered_models", "model_versions", "trace_info", "datasets")


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Let one process at a time make or repair the database *path*."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def exists(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def create(path: Path, template: Path | None) -> None:
    """
    Create the database *path* with all tables and no rows.

    Args:
        template: A file with these tables, which is made if it is missing; None makes the tables in any case.
    """
    with replacing(path, mode=0o600) as draft:
        if template is None or not _copied(template, draft):
            _write_tables(draft)


def replace_unused(path: Path) -> bool:
    """
    Replace a database without any work by a complete one, and keep the former file beside it as ``*.incomplete``.

    Returns:
        False when the database holds work, such as a run or a model; it is then unchanged.
    """
    with closing(sqlite3.connect(path)) as database:
        if any(_holds_work(database, table) for table in _WORK):
            return False
        aside = path.with_name(f"{path.name}.incomplete")
        aside.unlink(missing_ok=True)
        with closing(sqlite3.connect(aside)) as kept:
            database.backup(kept)
        with closing(_tables()) as complete:
            complete.backup(database)  # one transaction, also for the connections that MLflow holds
    _log.warning("incomplete_database_replaced", path=str(path), kept=str(aside))
    return True


def _holds_work(database: sqlite3.Connection, table: str) -> bool:
    known = database.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchone()
    condition = _NO_WORK.get(table, "1 = 1")
    found = f"SELECT 1 FROM {table} WHERE {condition} LIMIT 1"  # noqa: S608 - our own constants
    return known is not None and database.execute(found).fetchone() is not None


def _copied(template: Path, draft: Path) -> bool:
    """Copy *template*, which is made if it is missing; False when it can be neither made nor read."""
    try:
        if not template.is_file():
            with replacing(template, flush=False) as file:
                _write_tables(file)
        shutil.copyfile(template, draft)
    except (StoreUnavailable, OSError):  # the user has no directory for caches
        return False
    return True


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
