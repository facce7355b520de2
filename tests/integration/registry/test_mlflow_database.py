"""MLflow's SQLite database: complete or absent, repaired where an older Mendel was killed, and checked."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from datetime import timedelta

import pytest

from mendel.adapters.mlflow import MlflowArtifacts, database
from mendel.errors import Corrupt, StoreUnavailable
from mendel.registry import Publication
from mendel.values import ModelName, Stage

BEFORE_REVIEW_QUEUES = "89d3d66ed43f"
"""The revision of MLflow's schema before the table review_queues."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A template for new databases."""
    directory = tmp_path_factory.mktemp("tables")
    store(directory / "mlflow.db", directory / "cache").open()
    (template,) = (directory / "cache").iterdir()
    return template


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mlflow.db"


def store(path, cache=None):
    return MlflowArtifacts(f"sqlite:///{path}", path.parent / "artifacts", cache)


def publish(opened, path):
    tree = path.parent / "tree"
    tree.mkdir(exist_ok=True)
    (tree / "MLmodel").write_text("flavors: {}\n")
    return opened.publish(Publication(key="k", model=ModelName("credit"), stage=Stage.DEVELOPMENT), tree)


def killed_midway(former, path):
    """Copy the database *former* as if a kill had come between the table review_queues and its revision."""
    with closing(sqlite3.connect(former)) as whole, closing(sqlite3.connect(path)) as file, file:
        whole.backup(file)
        file.execute("DROP TABLE review_queue_items")
        file.execute("UPDATE alembic_version SET version_num = ?", (BEFORE_REVIEW_QUEUES,))


def shape(path):
    """The tables and indexes of a database, the columns of each table, and the rows of the table of revisions."""
    with closing(sqlite3.connect(path)) as file:
        names = file.execute("SELECT type, name FROM sqlite_master ORDER BY type, name").fetchall()
        columns = [file.execute("SELECT * FROM pragma_table_info(?)", (name,)).fetchall() for _, name in names]
        return names, columns, file.execute("SELECT * FROM alembic_version").fetchall()


def run_for(seconds, act):
    """Run *act* in a child process that dies of a signal after *seconds*."""
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)
        act()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def revision_of(path):
    """The schema's revision, which is written last, and the number of its tables."""
    with closing(sqlite3.connect(path)) as file:
        (revision,) = file.execute("SELECT version_num FROM alembic_version").fetchone()
        (tables,) = file.execute("SELECT count(*) FROM sqlite_master WHERE type = 'table'").fetchone()
    return revision, tables


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_kill_while_the_database_is_made_leaves_all_or_nothing(path, cache):
    """Killed at any moment of its creation, the database is absent or complete, and a model can be registered."""
    store(path.with_name("imports.db"), cache).open()
    began = time.monotonic()
    database.create(path.with_name("timed.db"), None)
    whole = time.monotonic() - began
    ends = []
    for share in (0.3, 0.8):
        ends.append(run_for(share * whole, lambda: database.create(path, None)))
        assert not path.exists() or revision_of(path) == revision_of(path.with_name("timed.db"))
    assert -signal.SIGALRM in ends
    assert 0 in ends or not path.exists()
    assert publish(store(path, cache), path).number == 1


def test_a_new_database_is_a_copy_of_the_tables_made_once(path, cache):
    """The second database of a user is copied from the cache, and holds no work of the first."""
    publish(store(path, cache), path)
    (template,) = cache.iterdir()
    shutil.copy(template, path.with_name("second.db"))
    assert publish(store(path.with_name("second.db")), path).number == 1


def test_a_database_that_was_left_incomplete_is_replaced(path, cache):
    """A directory whose first start an older Mendel did not finish can be used; the former file is kept beside it."""
    former = path.with_name("former.db")
    store(former, cache).open()
    killed_midway(former, path)
    assert publish(store(path, cache), path).number == 1
    assert path.with_name("mlflow.db.incomplete").exists()


def test_a_database_with_work_is_refused_and_kept(path, cache):
    """A database that MLflow cannot open and that holds a model is unchanged; the error names the ways out."""
    former = path.with_name("former.db")
    publish(store(former, cache), former)
    killed_midway(former, path)
    content = path.read_bytes()
    broken = store(path, cache)
    with pytest.raises(Corrupt, match=r"mlflow\.db: .* Restore the file .* mlflow db upgrade"):
        broken.open()
    assert path.read_bytes() == content
    with pytest.raises(Corrupt, match="mlflow db upgrade"):
        broken.check()


def test_a_replaced_database_has_the_tables_of_a_new_one(path, tables):
    """A replacement leaves the tables and indexes of a new database, and refuses while another program writes."""
    former = path.with_name("former.db")
    database.create(former, tables)
    killed_midway(former, path)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE TABLE _alembic_tmp_runs (run_uuid TEXT)")
    with closing(sqlite3.connect(path)) as file:
        file.execute("INSERT INTO _alembic_tmp_runs VALUES ('r')")
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            database.replace_unused(path, timedelta())
    assert database.replace_unused(path)
    assert shape(path) == shape(former)


def test_a_locked_database_is_unavailable_and_kept(path, cache, tables):
    """While another program has locked the database, it is neither repaired nor called corrupt; later it opens."""
    database.create(path, tables)
    content = path.read_bytes()
    opened = store(path, cache)
    opened.check()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable, match="locked"):
            opened.check()
        with pytest.raises(StoreUnavailable, match=r"locked.*other program"):
            opened.open()
    assert path.read_bytes() == content
    assert not path.with_name("mlflow.db.incomplete").exists()
    with pytest.raises(StoreUnavailable, match="locked"):
        opened.check()
    opened.open()
    opened.check()


def test_a_store_that_was_not_opened_is_read(path, cache):
    """Before the first use, a missing database passes the check, and an incomplete or damaged one does not."""
    unused = store(path, cache)
    unused.check()
    assert not path.exists()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("CREATE TABLE runs (run_uuid TEXT)")
    with pytest.raises(StoreUnavailable, match="incomplete"):
        unused.check()
    path.write_bytes(b"no database " * 1000)
    with pytest.raises(Corrupt, match="damaged"):
        unused.check()


def test_a_new_database_takes_no_changes_of_a_former_one(path, cache, tables):
    """The write-ahead log of a database that was deleted is not applied to the new database."""
    publish(store(path, cache), path)
    with closing(sqlite3.connect(path)) as file:
        file.execute("UPDATE registered_models SET description = 'former'")
        file.commit()
        log = path.with_name("mlflow.db-wal").read_bytes()
    assert log
    path.unlink()
    path.with_name("mlflow.db-wal").write_bytes(log)
    database.create(path, tables)
    assert not path.with_name("mlflow.db-wal").exists()


@pytest.mark.parametrize("end", [0, 4096, 40960])
def test_a_damaged_template_is_made_anew(path, tables, end):
    """Tables in the cache that were cut short, as by a power loss, are not copied."""
    template = path.with_name("tables.db")
    database.create(path.with_name("first.db"), tables)
    template.write_bytes(tables.read_bytes()[:end])
    database.create(path, template)
    assert path.read_bytes() == template.read_bytes()
    assert template.stat().st_size == tables.stat().st_size


def test_a_check_asks_mlflow(path, cache):
    """A check of an open store fails when MLflow's database does, and passes again as soon as the database answers."""
    opened = store(path, cache)
    opened.check()
    opened.open()
    opened.check()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("ALTER TABLE experiments RENAME TO away")
    with pytest.raises(StoreUnavailable, match="MLflow"):
        opened.check()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("ALTER TABLE away RENAME TO experiments")
    opened.check()
