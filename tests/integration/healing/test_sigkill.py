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
from mendel.durable import Ledger, verify_chain

CHILD = Path(__file__).with_name("hub_child.py")


def run_child(directory, *more):
    directory.mkdir(exist_ok=True)
    command = [sys.executable, str(CHILD), str(directory), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def events(directory):
    engine = open_engine(directory / "mendel.db")
    prepare_schema(engine)
    unit = SqlUnitOfWork(engine, all_stores(), rng=random.Random(0))
    entries = unit.read(lambda tx: tx.store(Ledger).entries())
    engine.dispose()
    return entries


def end_of(directory, done):
    said = json.loads(done.stdout)
    said.pop("seconds")
    return said, [(entry.event.type, entry.event.subject, entry.event.actor) for entry in events(directory)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The uninterrupted run."""
    directory = tmp_path_factory.mktemp("whole")
    done = run_child(directory)
    assert done.returncode == 0, done.stderr
    return directory, done


@pytest.mark.race
def test_from_signal_to_former_version_within_a_second(whole):
    """From noticing the fault to the former version in the deployment it takes less than a second."""
    _, done = whole
    said = json.loads(done.stdout)
    assert said["production"] == 1
    assert said["run"] == "succeeded"
    assert said["seconds"] < 1


@pytest.mark.slow
@pytest.mark.parametrize("step", ["begin", "1-roll_back", "1-roll_back kept", "3-watch look 1", "end"])
def test_killed_inside_a_step_it_ends_like_the_uninterrupted_one(tmp_path, whole, step):
    """Killed with SIGKILL after a step's change and before its result is remembered, each change is made once."""
    died = run_child(tmp_path / "hub", step)
    assert died.returncode == -signal.SIGKILL, died.stderr
    done = run_child(tmp_path / "hub")
    assert done.returncode == 0, done.stderr
    assert end_of(tmp_path / "hub", done) == end_of(*whole)
    ledger = events(tmp_path / "hub")
    assert verify_chain(ledger).last == len(ledger)
