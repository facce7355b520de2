"""Expensive things that are made once, whichever worker or run of pytest asks first."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def once(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Once:
    """
    Makes a directory of a given name once, by the given function, and gives it; nobody may change it afterwards.

    Its place is the room of the whole run where there is one, else that of this run of pytest, shared by its workers.
    """
    base = tmp_path_factory.getbasetemp()
    if room := pytestconfig.getoption("room"):
        base = Path(room)
    elif hasattr(pytestconfig, "workerinput"):
        base = base.parent
    shelf = base / "shared"
    shelf.mkdir(exist_ok=True)

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        place, done = shelf / name, shelf / f"{name}.done"
        with (shelf / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(place, ignore_errors=True)  # of one who failed
                place.mkdir()
                fill(place)
                done.touch()
        return place

    return make
