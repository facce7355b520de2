"""
Ship what waits in an inbox into a Delta lake and SQLite, and die by SIGKILL where the line on stdin says.

Argument: the directory. A line reads ``point NAME N`` (die at the named point, the N-th time), ``after SECONDS`` or
``never``; the answer is the signal that ended the shipper, or 0. Shippers are forked, so that each begins at once.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mendel.adapters.arrow.delta_lake import DeltaLake
from mendel.adapters.files import FileInbox
from mendel.adapters.sql import SqlUnitOfWork, open_engine, prepare_schema
from mendel.adapters.sql.predictions import STORES
from mendel.predictions import ProfileRow, Shipper
from mendel.values import ModelName, Table, Window, from_micros

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def count_rows(model: ModelName, version: int, table: Table) -> list[ProfileRow]:
    """One profile per five minutes, which says how many rows there are."""
    starts = [Window.containing(from_micros(int(at)), timedelta(minutes=5)) for at in table["event_time"]]
    return [
        ProfileRow(model=model, version=version, reference_id="r1", window=window, profile=str(starts.count(window)))
        for window in sorted(set(starts))
    ]


def dying_at(point: str, times: int) -> Callable[[str], None]:
    """What kills this process when *point* is reached for the *times*-th time."""
    left = times

    def at(name: str) -> None:
        nonlocal left
        left -= name == point
        if name == point and left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


def ship(home: Path, at: Callable[[str], None]) -> None:
    """One pass."""
    engine = open_engine(home / "mendel.db")
    prepare_schema(engine)
    unit = SqlUnitOfWork(engine, STORES, rng=random.Random(0))
    Shipper(FileInbox(home / "inbox"), DeltaLake(home / "lake"), unit, count_rows, at=at).ship(NOW)
    engine.dispose()


def main(home: Path) -> None:
    """Fork for each line, and say how the child ended."""
    for line in sys.stdin:
        how, *rest = line.split()
        child = os.fork()
        if child == 0:
            ship(home, dying_at(rest[0], int(rest[1])) if how == "point" else lambda _: None)
            os._exit(0)
        if how == "after":
            time.sleep(float(rest[0]))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)}\n")
        sys.stdout.flush()


main(Path(sys.argv[1]))
