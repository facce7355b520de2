"""Nothing of a caller is in the hub's log: secrets and values go through its error paths, defects included."""

from __future__ import annotations

import itertools
import json
import sqlite3
from contextlib import closing

import httpx

from mendel.app.directory import DataDirectory
from mendel.operations import OPERATIONS

HEADERS = {"cookie": "canary-cookie", "user-agent": "canary-agent", "x-mendel-actor": "canary-actor"}
BODIES = (
    *(b"canary", b'{"canary":', b'"canary"', b"[" * 2000, b'{"prediction_id":"canary","true_label":"canary"}'),
    *(b'{"reason":"canary","label":"canary","scopes":["read"],"note":"canary","share":0.1,"to":"sandbox"}',),
    *(b"prediction_id,true_label\ncanary,canary,canary\n", b'{"label_timestamp":"0001-01-01T00:00:00+23:59"}'),
)


def test_no_log_of_the_hub_holds_a_key_a_header_or_a_value(run_hub, tmp_path):
    """Whatever is asked of every operation, also with its tables gone, the log names types and places alone."""
    directory = tmp_path / ".mendel"
    with run_hub(directory) as process:
        data = DataDirectory(directory)
        secret = data.secret()
        statuses = set(asked(data.hub().url, secret))
        break_tables(directory / "mendel.db")
        statuses |= set(asked(data.hub().url, secret))
        process.terminate()
        _, log = process.communicate(timeout=60)
    assert 500 in statuses
    assert "hub_fault" in log
    assert [line for line in log.splitlines() if "canary" in line.lower() or secret in line] == []
    assert "Traceback" not in log


def asked(url, secret):
    """The statuses of every operation with every body, by a known key and an unknown one."""
    with httpx.Client(base_url=url, timeout=60) as http:
        for one, key in itertools.product(OPERATIONS.values(), (secret, "canary-key")):
            path = one.url
            while "{" in path:
                path = path[: path.index("{")] + "canary" + path[path.index("}") + 1 :]
            for body in BODIES if one.has_body else (b"",):
                for kind in ("application/json", "text/csv"):
                    headers = HEADERS | {"authorization": f"Bearer {key}", "content-type": kind}
                    query = {"model": "canary", "reason": "canary", "wait": "0"}
                    yield http.request(one.method, path, params=query, content=body, headers=headers).status_code


def break_tables(database):
    """Drop the tables but those of keys and leases, so that what is left fails with an error that quotes its SQL."""
    with closing(sqlite3.connect(database, timeout=30)) as state:
        state.execute("PRAGMA foreign_keys = off")
        tables = [name for (name,) in state.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in tables:
            if not name.startswith("sqlite") and "key" not in name and "lease" not in name:
                state.execute(f"DROP TABLE {json.dumps(name)}")
        state.commit()
