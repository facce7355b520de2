"""Errors of MLflow's SQLite file: the file, not its tables, and a remedy that fits."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from mendel.adapters.mlflow import database
from mendel.adapters.mlflow.errors import file_error, translated_file_errors
from mendel.errors import Corrupt, StoreUnavailable


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE TABLE alembic_version (version_num TEXT)")
        file.execute("INSERT INTO alembic_version VALUES ('abc')")
    return path


def test_a_locked_database_asks_to_wait(path):
    """Locked by another program, also behind SQLAlchemy, the database is unavailable and not corrupt."""
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 0})
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable, match=r"database is locked.*other program"), translated_file_errors(path):
            database.revision(path, timedelta())
        with pytest.raises(DBAPIError) as raised, engine.connect() as connection:
            connection.execute(text("SELECT * FROM alembic_version"))
    engine.dispose()
    assert isinstance(file_error(raised.value, path), StoreUnavailable)


@pytest.mark.parametrize(
    ("uri", "setting", "remedy"),
    [("mode=ro", "cache_size = 10", "permissions"), ("mode=rw", "max_page_count = 1", "Free disk space")],
    ids=["read-only", "full"],
)
def test_a_database_that_cannot_be_written_is_unavailable(path, uri, setting, remedy):
    """A read-only file and a full disk have each their own remedy."""
    with closing(sqlite3.connect(f"{path.as_uri()}?{uri}", uri=True)) as file:
        file.execute(f"PRAGMA {setting}")
        with pytest.raises(StoreUnavailable, match=remedy), translated_file_errors(path):
            file.execute("CREATE TABLE further AS SELECT randomblob(100000)")


def test_a_file_that_cannot_be_opened_is_unavailable(tmp_path):
    """The revision of a file that cannot be opened is not read, and no file is made."""
    path = tmp_path / "absent.db"
    with pytest.raises(StoreUnavailable, match="permissions"), translated_file_errors(path):
        database.revision(path, timedelta())
    assert not path.exists()


def test_a_damaged_file_is_corrupt(path):
    """For a file that is no database, the remedy is a backup without the former changes beside the file."""
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(Corrupt, match=r"Restore .*-wal"), translated_file_errors(path):
        database.revision(path, timedelta())


def test_a_missing_table_is_no_fault_of_the_file(path):
    """An error about tables is left to the repair."""
    with closing(sqlite3.connect(path)) as file, pytest.raises(sqlite3.OperationalError) as raised:
        file.execute("SELECT * FROM experiments")
    assert file_error(raised.value, path) is None


def test_a_process_waits_for_its_turn_no_longer_than_its_patience(tmp_path):
    """While another process opens the database, the turn is refused after the deadline; afterwards it is granted."""
    path = tmp_path / "mlflow.db"
    with (
        database.alone(path),
        pytest.raises(StoreUnavailable, match=r"Another process .* Wait until"),
        database.alone(path, timedelta()),
    ):
        pytest.fail("two had the turn")
    with database.alone(path, timedelta()):
        assert not path.exists()
