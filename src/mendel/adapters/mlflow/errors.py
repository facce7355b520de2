"""Translate the errors of MLflow and of its SQLite file into Mendel's errors."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mendel.errors import ArtifactNotFound, Corrupt, InvalidInput, MendelError, StoreUnavailable

ABSENT = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"})
EXISTS = "RESOURCE_ALREADY_EXISTS"
_REFUSED = frozenset({"INVALID_PARAMETER_VALUE", "BAD_REQUEST"})
_REMEDY = "Free the disk if it is full, and check the permissions of mlflow.db in the data directory; then try again."
_PERMISSIONS = "Check the permissions of mlflow.db and of its directory; then try again."
_DISK = "Check the disk and the memory of the machine; then try again."
_IN_USE = "Wait until the other program that writes mlflow.db is done, or stop the program; then try again."
_UNAVAILABLE = {
    **dict.fromkeys((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL), _IN_USE),
    **dict.fromkeys(
        (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_CANTOPEN), _PERMISSIONS
    ),
    **dict.fromkeys((sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM), _DISK),
    sqlite3.SQLITE_FULL: "Free disk space and try again.",
}
_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
RESTORE = (
    "Restore the file from a backup, and delete mlflow.db-wal, mlflow.db-shm and mlflow.db-journal beside it, "
    "unless they belong to the backup."
)


def sqlite_code(error: BaseException) -> int | None:
    """Give the primary result code of the SQLite error that caused *error*; None if SQLite did not cause it."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, sqlite3.Error):
        cause = cause.__cause__
    code: int | None = getattr(cause, "sqlite_errorcode", None)  # errors of the Python module have no code
    return None if code is None else code & 0xFF


def file_error(error: BaseException, path: Path) -> MendelError | None:
    """Translate *error* if SQLite cannot use the file *path*; None for all other errors, such as a missing table."""
    code = sqlite_code(error)
    if code in _DAMAGED:
        return Corrupt(f"MLflow's database {path} is damaged: {first_line(error)}.", remedy=RESTORE)
    if code in _UNAVAILABLE:
        return StoreUnavailable(
            f"MLflow's database {path} is not available: {first_line(error)}.", remedy=_UNAVAILABLE[code]
        )
    return None


@contextmanager
def translated_file_errors(path: Path) -> Iterator[None]:
    """
    Turn errors of SQLite about the file *path* into Mendel's.

    Raises:
        Corrupt: The file is damaged, not a database, or has other tables than MLflow's.
        StoreUnavailable: The file is locked, read-only or unreadable, or the disk is full or fails.
    """
    try:
        yield
    except sqlite3.Error as error:
        refusal = file_error(error, path)
        raise refusal or Corrupt(
            f"MLflow's database {path} cannot be used: {first_line(error)}.", remedy=RESTORE
        ) from error


def first_line(error: object) -> str:
    """Give the first line of an error's message; SQLAlchemy adds the statement and a link in further lines."""
    return next(iter(str(error).splitlines()), "")


@contextmanager
def translated() -> Iterator[None]:
    """
    Turn MLflow's errors into Mendel's.

    Raises:
        ArtifactNotFound: MLflow does not know the model.
        InvalidInput: MLflow refuses a name, a tag or a metric.
        StoreUnavailable: MLflow or its database reports any other error, or the artefacts cannot be read or written.
    """
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - takes seconds to import
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415 - MLflow passes on some errors of its database

    try:
        yield
    except MlflowException as error:
        if error.error_code in ABSENT:
            raise ArtifactNotFound(f"MLflow does not have the requested version or model: {error.message}") from error
        if error.error_code in _REFUSED:
            raise InvalidInput(f"MLflow refuses a name, tag or metric: {error.message}") from error
        raise StoreUnavailable(f"MLflow failed: {first_line(error.message)}", remedy=_remedy(error)) from error
    except SQLAlchemyError as error:
        raise StoreUnavailable(f"MLflow's database failed: {first_line(error)}", remedy=_remedy(error)) from error
    except OSError as error:
        raise StoreUnavailable(f"MLflow's artefact directory cannot be read or written: {error}.") from error


def _remedy(error: BaseException) -> str:
    return _UNAVAILABLE.get(sqlite_code(error) or 0, _REMEDY)
