"""A workflow killed at any named point and resumed in a new process ends like the uninterrupted one."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mendel.adapters.sql import SqlUnitOfWork, open_engine
from mendel.durable import Ledger, Outbox, WorkflowRun
from mendel.values import from_json
from support.ledgers import whole_to

STEPS = ["collect", "train", "promote"]
POINTS = [
    "before-start",
    "after-start",
    *(f"{when}-{step}" for step in STEPS for when in ("before", "inside", "after")),
    "before-gate",
    "after-gate",
    "during-bake",
]


LAB = Path(__file__).with_name("kill_lab.py")


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The directory in which every point was killed at and resumed from."""
    directory = tmp_path_factory.mktemp("lab")
    subprocess.run([sys.executable, LAB, directory, "nowhere", *POINTS], check=True, timeout=100)
    return directory


def ledger_of(directory):
    engine = open_engine(directory / "mendel.db")
    unit = SqlUnitOfWork(engine, {}, rng=random.Random(0))
    found = unit.read(lambda tx: (tx.store(Ledger).entries(), tx.store(Outbox).depth()))
    engine.dispose()
    return found


@pytest.mark.parametrize("point", POINTS)
def test_killed_there_and_resumed_it_ends_like_the_uninterrupted_one(lab, point):
    """Same result, same ledger, nothing left to start; an interrupted step runs twice, its change happens once."""
    entries, depth = ledger_of(lab / point)
    assert (entries, depth) == ledger_of(lab / "nowhere")
    assert whole_to(entries) == len(STEPS)
    run = from_json((lab / point / "run-1.json").read_bytes(), WorkflowRun)
    assert run == from_json((lab / "nowhere" / "run-1.json").read_bytes(), WorkflowRun)
    assert run.result["promoted"] == {"did": "promote", "version": 2, "refused": ["samples"]}
    acts = Counter((lab / point / "acts.log").read_text().split())
    interrupted = point.removeprefix("inside-")
    assert acts == {step: 2 if step == interrupted else 1 for step in STEPS}


def test_killed_at_random_times_every_change_happens_once(tmp_path):
    """Processes that die at any moment, again and again, leave a whole ledger with each change once and in order."""
    answer = subprocess.run(
        [sys.executable, LAB, tmp_path, "--random", "7"], check=True, timeout=100, capture_output=True, text=True
    )
    assert int(answer.stdout) >= 5
    for lane in sorted(tmp_path.glob("chance-*")):
        entries, depth = ledger_of(lane)
        assert depth == 0
        assert whole_to(entries) == 7 * len(STEPS)
        for run in range(1, 8):
            happened = [entry.event.id for entry in entries if entry.event.id.startswith(f"run-{run}/")]
            assert happened == [f"run-{run}/{step}" for step in STEPS]
