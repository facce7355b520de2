"""A playbook on DBOS and SQLite in a process of its own that is killed with SIGKILL and started again."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mendel.adapters.sql import SqlUnitOfWork, all_stores, open_engine, prepare_schema
from mendel.durable import Ledger
from support.ledgers import whole_to

CHILD = Path(__file__).with_name("hub_child.py")


@pytest.fixture(scope="module")
def play():
    """Plays in the hub of a directory, in a process that may be told to die in a step; how it ended, what it said."""
    with subprocess.Popen([sys.executable, CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as hubs:

        def play_(directory, step=None):
            directory.mkdir(exist_ok=True)
            hubs.stdin.write(json.dumps([str(directory), step]) + "\n")
            hubs.stdin.flush()
            ended = json.loads(hubs.stdout.readline())
            return ended["code"], ended["said"]

        yield play_


def events(directory):
    engine = open_engine(directory / "mendel.db")
    prepare_schema(engine)
    unit = SqlUnitOfWork(engine, all_stores(), rng=random.Random(0))
    entries = unit.read(lambda tx: tx.store(Ledger).entries())
    engine.dispose()
    return entries


def end_of(directory, said):
    told = json.loads(said)
    told.pop("seconds")
    return told, [(entry.event.type, entry.event.subject, entry.event.actor) for entry in events(directory)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, play):
    """The uninterrupted run."""
    directory = tmp_path_factory.mktemp("whole")
    code, said = play(directory)
    assert code == 0
    return directory, said


@pytest.mark.race
def test_from_signal_to_former_version_within_a_second(whole):
    """From noticing the fault to the former version in the deployment it takes less than a second."""
    _, said = whole
    told = json.loads(said)
    assert told["production"] == 1
    assert told["run"] == "succeeded"
    assert told["seconds"] < 1


@pytest.mark.parametrize("step", ["begin", "1-roll_back", "1-roll_back kept", "3-watch look 1", "end"])
def test_killed_inside_a_step_it_ends_like_the_uninterrupted_one(tmp_path, play, whole, step):
    """Killed with SIGKILL after a step's change and before its result is remembered, each change is made once."""
    assert play(tmp_path / "hub", step) == (-signal.SIGKILL, "")
    code, said = play(tmp_path / "hub")
    assert code == 0
    assert end_of(tmp_path / "hub", said) == end_of(*whole)
    ledger = events(tmp_path / "hub")
    assert whole_to(ledger) == len(ledger)
