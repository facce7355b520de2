"""Import MLflow on first use, open its store, and silence its log messages and warnings."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mendel.adapters.mlflow import database
from mendel.adapters.mlflow.errors import RESTORE, file_error, first_line, sqlite_code, translated_file_errors
from mendel.errors import Corrupt, StoreUnavailable
from mendel.values.atomic_files import translated_disk_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"
_OUTDATED = "out-of-date database schema"
_LOCKED_FOR = timedelta(seconds=5)
_PROBE_FOR = timedelta(milliseconds=200)
_global_uri = threading.Lock()  # MLflow has one tracking URI per process


def connect(tracking_uri: str, template: Path | None) -> MlflowClient:
    """
    Connect to the MLflow store at *tracking_uri*; a missing SQLite file is created completely or not at all.

    A SQLite file that MLflow cannot open and that holds no work is replaced; an interrupted start of an older Mendel
    left such files.

    Args:
        template: The file with MLflow's empty tables that new SQLite files are copied from; made if it is missing.

    Raises:
        Corrupt: The SQLite file is damaged, or MLflow cannot use its tables and it holds runs or models.
        StoreUnavailable: The SQLite file is locked, read-only or unreadable, or the disk is full or fails.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own SQLAlchemy warnings
        import mlflow  # noqa: F401, PLC0415 - takes seconds

        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        if not tracking_uri.startswith(_SQLITE):
            return _opened(tracking_uri)
        path = Path(tracking_uri.removeprefix(_SQLITE))
        with database.alone(path), translated_file_errors(path):
            if not database.exists(path):
                database.create(path, template)
            database.revision(path, _LOCKED_FOR)  # MLflow would try again for minutes if it cannot read the file
            client = _opened_or_repaired(tracking_uri, path)
            _use_wal(path)
    return client


def probe(tracking_uri: str) -> None:
    """
    Read the SQLite file of a store that is not open, without MLflow; a missing file passes, as the first use makes it.

    Raises:
        Corrupt: The file is damaged or not a database.
        StoreUnavailable: The file cannot be read, or its tables are incomplete.
    """
    if not tracking_uri.startswith(_SQLITE):
        return
    path = Path(tracking_uri.removeprefix(_SQLITE))
    with translated_disk_errors(path, act="read"), translated_file_errors(path):
        if database.exists(path) and database.revision(path, _PROBE_FOR) is None:
            raise StoreUnavailable(
                f"MLflow's database {path} is incomplete and is not open yet.",
                remedy="Wait until the hub opens the file, which repairs a file without runs and models.",
            )


@contextmanager
def as_global(tracking_uri: str) -> Iterator[None]:
    """
    Set the process's MLflow tracking URI to *tracking_uri* inside the ``with`` block, then restore the former URI.

    MLflow needs the global URI when it creates a version from ``models:/m-...``, because it then makes its own client.
    """
    from mlflow.tracking._tracking_service.utils import _use_tracking_uri  # noqa: PLC0415 - no public one restores

    with _global_uri, _use_tracking_uri(tracking_uri):
        yield


def _opened(tracking_uri: str) -> MlflowClient:
    from mlflow import MlflowClient  # noqa: PLC0415 - takes seconds to import

    client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
    client.search_experiments(max_results=1)  # opens MLflow's store of runs
    client.search_registered_models(max_results=1)  # opens its store of versions
    return client


def _opened_or_repaired(tracking_uri: str, path: Path) -> MlflowClient:
    from alembic.util import CommandError  # noqa: PLC0415 - MLflow passes on the errors of its libraries
    from mlflow.exceptions import MlflowException  # noqa: PLC0415
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    try:
        return _opened(tracking_uri)
    except (CommandError, MlflowException, SQLAlchemyError) as error:
        refusal = file_error(error, path)
        if refusal is not None:
            raise refusal from error
        if isinstance(error, MlflowException) and sqlite_code(error) is None and _OUTDATED not in error.message:
            raise  # not about the tables
        if not database.replace_unused(path):
            raise Corrupt(
                f"MLflow cannot use the tables of its database {path}: {first_line(error)}.",
                remedy=f"{RESTORE} If another version of MLflow wrote the file, back it up and "
                f"run: mlflow db upgrade {tracking_uri}",
            ) from error
    return _opened(tracking_uri)


def _use_wal(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
