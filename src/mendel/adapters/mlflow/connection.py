"""Import MLflow on first use, open its store, and silence its log messages and warnings."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mendel.adapters.mlflow import database
from mendel.adapters.mlflow.errors import first_line
from mendel.errors import Corrupt

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"
_global_uri = threading.Lock()  # MLflow has one tracking URI per process


def connect(tracking_uri: str, template: Path | None) -> MlflowClient:
    """
    Connect to the MLflow store at *tracking_uri*; a missing SQLite file is created completely or not at all.

    A SQLite file that MLflow cannot open and that holds no work is replaced; an interrupted start of an older Mendel
    left such files.

    Args:
        template: The file with MLflow's empty tables that new SQLite files are copied from; made if it is missing.

    Raises:
        Corrupt: MLflow cannot open the SQLite file, which holds runs or models.
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
        with database.alone(path):
            if not database.exists(path):
                database.create(path, template)
            client = _opened_or_repaired(tracking_uri, path)
            _use_wal(path)
    return client


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
        try:
            replaced = database.replace_unused(path)
        except sqlite3.Error:  # the file is damaged, not incomplete
            replaced = False
        if not replaced:
            raise Corrupt(
                f"MLflow cannot open its database {path}: {first_line(error)}.",
                remedy="Restore the file from a backup. If another version of MLflow wrote it, back the file up and "
                f"run: mlflow db upgrade {tracking_uri}",
            ) from error
    return _opened(tracking_uri)


def _use_wal(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
