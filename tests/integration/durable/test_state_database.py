"""The state database as a file: what it refuses, what it says when it is damaged, and what it holds to."""

from __future__ import annotations

import random
import sqlite3
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from mendel.adapters.sql import SCHEMA_VERSION, SqlUnitOfWork, open_engine, prepare_schema
from mendel.adapters.sql import engine as engine_module
from mendel.adapters.sql.engine import file_system_of
from mendel.adapters.sql.unit_of_work import CONTENTION
from mendel.durable import Event, Ledger
from mendel.errors import Conflict, Corrupt, InvalidSettings, SchemaTooNew, StoreUnavailable
from mendel.values import EPOCH


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mendel.db"


@pytest.fixture
def engine(path):
    engine = open_engine(path)
    prepare_schema(engine)
    yield engine
    engine.dispose()


def test_preparing_twice_changes_nothing(engine, path):
    """A prepared database is left as it is, byte for byte."""
    before = sqlite3.connect(path)
    schema = before.execute("SELECT * FROM sqlite_master ORDER BY name").fetchall()
    prepare_schema(engine)
    assert before.execute("SELECT * FROM sqlite_master ORDER BY name").fetchall() == schema
    before.close()


def test_a_database_of_a_newer_mendel_is_refused_untouched(engine):
    """A schema above ours is SchemaTooNew, says both, and stays."""
    with engine.begin() as connection:
        connection.execute(text("UPDATE meta SET value = :newer"), {"newer": str(SCHEMA_VERSION + 1)})
    with pytest.raises(SchemaTooNew, match=rf"schema version {SCHEMA_VERSION + 1}; the .* up to {SCHEMA_VERSION}"):
        prepare_schema(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT value FROM meta")).scalar() == str(SCHEMA_VERSION + 1)


def test_a_failed_migration_leaves_nothing(path, monkeypatch):
    """Migrating is one transaction: interrupted, it leaves an empty database."""

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("mendel.adapters.sql.schema._record_version", interrupted)
    engine = open_engine(path)
    with pytest.raises(KeyboardInterrupt):
        prepare_schema(engine)
    monkeypatch.undo()
    with engine.connect() as connection:
        assert connection.execute(text("SELECT name FROM sqlite_master")).all() == []
    prepare_schema(engine)
    engine.dispose()


def test_connections_are_set_up_for_one_careful_writer(engine):
    """WAL, a busy timeout, foreign keys and synchronous NORMAL hold on every connection."""
    with engine.connect() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "busy_timeout", "foreign_keys", "synchronous")
        }
    assert found == {"journal_mode": "wal", "busy_timeout": 3000, "foreign_keys": 1, "synchronous": 1}


def test_the_ledger_table_refuses_a_second_successor(engine):
    """Two entries with one predecessor, or one sequence, are kept out by the database itself."""
    unit = SqlUnitOfWork(engine, {}, rng=random.Random(0))
    event = Event(id="e1", type="a", subject="s", time=EPOCH, actor="test", data={})
    unit.write(lambda tx: tx.append(event))

    class Raw: ...

    copying = SqlUnitOfWork(engine, {Raw: lambda connection: connection}, rng=random.Random(0))
    copy = "INSERT INTO ledger SELECT 2, prev_hash, hash, 'e2', type, subject, root, time, actor, data FROM ledger"
    with pytest.raises(Conflict, match="prev_hash"):
        copying.write(lambda tx: tx.store(Raw).execute(text(copy)))


def test_what_is_no_database_is_corrupt(path):
    """A file of something else is told apart from a database that is away."""
    path.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    engine = open_engine(path)
    with pytest.raises(Corrupt, match="backup"):
        prepare_schema(engine)
    engine.dispose()


def test_a_directory_that_is_away_is_unavailable(tmp_path):
    """A path that cannot be opened is StoreUnavailable."""
    engine = open_engine(tmp_path / "nowhere" / "mendel.db")
    unit = SqlUnitOfWork(engine, {}, rng=random.Random(0))
    with pytest.raises(StoreUnavailable):
        unit.read(lambda tx: tx.store(Ledger).head())
    engine.dispose()


def test_a_postgres_that_is_away_is_unavailable():
    """A PostgreSQL URL opens with psycopg, and nobody listening is StoreUnavailable."""
    engine = open_engine("postgres://nobody@127.0.0.1:9/none")
    assert engine.dialect.driver == "psycopg"
    with pytest.raises(StoreUnavailable):
        prepare_schema(engine)
    engine.dispose()


def test_other_databases_are_refused():
    """What is neither SQLite nor PostgreSQL is refused with what is meant."""
    with pytest.raises(InvalidSettings, match="mysql"):
        open_engine("mysql://localhost/x")


def test_network_file_systems_are_refused(path, monkeypatch):
    """SQLite on NFS is refused by name, before a file is made."""
    monkeypatch.setattr(engine_module, "file_system_of", lambda *_: "nfs4")
    with pytest.raises(InvalidSettings, match=r"network file system \(nfs4\)"):
        open_engine(path)
    assert not path.exists()


@pytest.mark.parametrize(
    ("place", "kind"),
    [("/home/x/a.db", "nfs"), ("/homely/a.db", "ext4"), ("/mnt/my disk/a.db", "cifs"), ("/home/local/a.db", "xfs")],
)
def test_the_nearest_mount_tells_the_file_system(place, kind):
    """The longest mount point that holds the path counts, the last of equals, blanks decoded."""
    mounts = r"""
/dev/vda / ext4 rw 0 0
server:/home /home nfs rw 0 0
//server/share /mnt/my\040disk cifs rw 0 0
/dev/vdb /home/local ext3 rw 0 0
/dev/vdc /home/local xfs rw 0 0
"""
    assert file_system_of(Path(place), mounts) == kind


def test_busy_is_waited_for_not_longer_than_told(path):
    """A writer that never lets go makes others StoreUnavailable when the time for their retries is over."""
    engine = open_engine(path, busy_timeout=timedelta(milliseconds=10))
    prepare_schema(engine)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    retries = replace(CONTENTION, within=timedelta(milliseconds=300))
    unit = SqlUnitOfWork(engine, {}, rng=random.Random(0), retries=retries)
    with pytest.raises(StoreUnavailable, match="locked"):
        unit.write(lambda _: None)
    blocker.execute("ROLLBACK")
    unit.write(lambda _: None)
    blocker.close()
    engine.dispose()
