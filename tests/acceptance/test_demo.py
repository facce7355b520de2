"""The main job, as a person sees it: `mendel demo` plays the whole loop, says what happened, and leaves nothing."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.shared_data import has_shared_data, shared_data

TABLE = "credit.csv"
DECIDED_WITHIN_S = 15.0


def play(home, *arguments):
    """What the demo printed; it ended with 0 and left neither a process nor a file."""
    try:
        played = subprocess.run(
            [sys.executable, "-m", "mendel.app.cli", "demo", *arguments],
            cwd=home,
            env={**os.environ, "TMPDIR": str(home), "COLUMNS": "1000"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=400,
        )
        left = processes_below(home)
    finally:
        for pid in processes_below(home):
            os.kill(pid, signal.SIGKILL)
    assert played.returncode == 0, f"{played.stdout[-6000:]}\n{played.stderr}"
    assert left == {}
    assert list(home.iterdir()) == []
    return played.stdout


def processes_below(home):
    """Ids and command lines of the processes that were started with *home* for their temporary files."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"TMPDIR={home}\0" in (process / "environ").read_text(errors="replace"):
                found[int(process.name)] = (process / "cmdline").read_text().replace("\0", " ")
        except OSError:  # gone, or not ours
            continue
    return found


def told(text, sentence):
    """The groups of the one place where *text* says *sentence*."""
    found = re.findall(sentence, text)
    assert len(found) == 1, f"{sentence!r} stands {len(found)} times in:\n{text}"
    return found[0]


def judge(text):
    """Hold what the demo printed against what it must show."""
    sent, answered, faults, failed = map(
        int,
        told(
            text,
            r"Requests: (\d+) sent \(.*\), (\d+) answered, "
            r"(\d+) failed because of the bad version, (\d+) for other reasons\.",
        ),
    )
    assert failed == 0
    assert faults > 0
    assert sent == answered + faults > 500
    bad_to_decision, decision_to_return = map(
        float,
        told(text, r"decided (\S+) s after the first bad answer, the former version answered (\S+) s after the dec"),
    )
    assert 0 <= bad_to_decision < DECIDED_WITHIN_S
    assert decision_to_return >= 0
    assert "nothing to do, because" in text
    assert told(text, r"Decision: (\w+) \(") == "retrain"
    before, drifted, after = map(
        float, told(text, r"Accuracy (\S+) before, (\S+) while drifted, (\S+) after; 0 requests failed")
    )
    assert drifted < before
    assert drifted < after
    assert told(text, r"(INC-\d+-\d+) is resolved")
    assert told(text, r"; (\d+) candidate registered, each of its \d+ recorded changes once") == "1"
    assert int(told(text, r"Ledger verified: (\d+) entries, anchored by signature up to \d+")) > 30
    looks, equal = map(int, told(text, r"Backtest: (\d+) looks decided again, (\d+) with the stored result\."))
    assert looks == equal > 10  # a backtest of the demo's own recording reproduces every decision
    assert told(text, r"Model card: (\S+card\.md)")
    assert "The policy that was used" in text


@pytest.fixture(scope="module")
def plays(tmp_path_factory):
    """Both demos, played at the same time: each waits more than it works."""
    stories = {"digits": ()}
    if has_shared_data(TABLE):
        stories["table"] = ("--data", str(shared_data(TABLE)), "--target", "SeriousDlqin2yrs")
    with ThreadPoolExecutor(len(stories)) as pool:
        yield {name: pool.submit(play, tmp_path_factory.mktemp(name), *given) for name, given in stories.items()}


@pytest.mark.race
@pytest.mark.slow
@pytest.mark.timeout(450)
def test_the_demo_plays_the_circle_on_the_digits(plays):
    """`mendel demo` ends with 0: 0 failed requests, a decision within 15 s, one candidate, a ledger that holds."""
    judge(plays["digits"].result())


@pytest.mark.race
@pytest.mark.slow
@pytest.mark.timeout(450)
def test_the_demo_plays_the_same_story_on_any_table(plays):
    """`mendel demo --data credit.csv --target SeriousDlqin2yrs` shows the same, with the gates as they are."""
    shared_data(TABLE)
    judge(plays["table"].result())
