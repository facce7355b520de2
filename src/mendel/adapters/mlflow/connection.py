"""Import MLflow on first use, and silence its log messages and warnings."""

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

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"
_global_uri = threading.Lock()  # MLflow has one tracking URI per process


def connect(tracking_uri: str) -> MlflowClient:
    """Connect to the MLflow store at *tracking_uri*; a missing SQLite file is created, which takes seconds."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's own SQLAlchemy warnings
        from mlflow import MlflowClient  # noqa: PLC0415 - takes seconds to import

        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        client.search_experiments(max_results=1)  # creates the tables
    if tracking_uri.startswith(_SQLITE):
        _use_wal(Path(tracking_uri.removeprefix(_SQLITE)))
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


def _use_wal(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
