"""DBOS as we run it: one per process, quiet, with JSON in its database, and its file told apart from others."""

from __future__ import annotations

import logging
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from mendel.adapters.dbos import DbosWorkflows
from mendel.adapters.sql import translated
from mendel.durable import WorkflowCall, WorkflowState
from mendel.errors import Corrupt, StoreUnavailable

SOON = timedelta(seconds=20)


def workflows(path, *, executor="hub", version="1"):
    made = DbosWorkflows(
        path,
        executor_id=executor,
        application_version=version,
        clock=lambda: datetime.now(UTC),
        database_errors=translated,
    )
    made.register("mend", lambda run, payload: run.step("act", lambda: {"n": payload["n"] + 1}))
    return made


def test_a_second_one_in_the_process_is_refused(tmp_path):
    """While one is open another is refused, instead of sharing its database unasked; afterwards it opens."""
    with workflows(tmp_path / "a.db").open():
        with pytest.raises(RuntimeError, match="already open"), workflows(tmp_path / "b.db").open():
            pass
        assert not (tmp_path / "b.db").exists()
    with workflows(tmp_path / "b.db").open():
        pass


def test_its_file_is_wal_and_holds_json(tmp_path):
    """The file is in WAL mode before DBOS comes, and what is remembered is JSON, never a pickle."""
    path = tmp_path / "workflows.db"
    with workflows(path).open() as opened:
        opened.start(WorkflowCall(name="mend", id="w1", input={"n": 1}))
        opened.wait("w1", timeout=SOON)
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = [row for name in tables for row in connection.execute(f'SELECT * FROM "{name}"')]  # noqa: S608 - its own
    cells = [cell for row in rows for cell in row if isinstance(cell, str)]
    assert {'{"n":2}', "portable_json"} <= set(cells)
    assert not [cell for cell in cells if cell.startswith("gAS")], "base64 of a pickle"


def test_another_executor_leaves_it_alone(tmp_path):
    """What one executor left unfinished, another sees and does not resume; its owner does."""
    path = tmp_path / "workflows.db"

    class Killed(BaseException): ...

    def killed(run, payload):
        raise Killed

    first = DbosWorkflows(
        path, executor_id="hub", application_version="1", clock=lambda: datetime.now(UTC), database_errors=translated
    )
    first.register("mend", killed)
    with first.open() as opened:
        opened.start(WorkflowCall(name="mend", id="w1", input={"n": 1}))
    with workflows(path, executor="other").open() as opened:
        assert [run.id for run in opened.unfinished()] == ["w1"]
    with workflows(path).open() as opened:
        assert opened.wait("w1", timeout=SOON).state is WorkflowState.DONE


def test_it_prints_nothing(tmp_path, capfd):
    """Neither launching, nor a failing workflow, nor leaving prints; the failure reaches whoever configured logging."""
    heard = []

    class Hearing(logging.Handler):
        def emit(self, record):
            heard.append(record.levelname)

    logger = logging.getLogger("dbos")
    hearing = Hearing()
    made = workflows(tmp_path / "workflows.db")
    made.register("fail", lambda run, payload: {"n": payload["absent"]})
    with made.open() as opened:
        logger.addHandler(hearing)
        opened.start(WorkflowCall(name="fail", id="w1", input={}))
        assert opened.wait("w1", timeout=SOON).error == "KeyError: 'absent'"
    logger.removeHandler(hearing)
    assert "ERROR" in heard
    assert capfd.readouterr() == ("", "")


def test_a_file_that_is_none_or_away_is_said(tmp_path):
    """A damaged file is Corrupt, a missing directory StoreUnavailable; the process stays free for another."""
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"not a database, but long enough to be taken for one" * 100)
    with pytest.raises(Corrupt), workflows(damaged).open():
        pass
    with pytest.raises(StoreUnavailable), workflows(tmp_path / "nowhere" / "w.db").open():
        pass
    with workflows(tmp_path / "w.db").open():
        pass
