"""Programs of other vendors, with programs that everybody has."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest

from mendel.adapters.engines.external_program import Program, descendants, end_from_below, tail
from mendel.errors import ProgramFailed, Unsupported

PYTHON = Program(sys.executable)
SHORT = timedelta(seconds=0.5)


def test_an_absent_program_says_what_to_install():
    """A program that is not there is unsupported, not a traceback."""
    with pytest.raises(Unsupported, match=r"no-such-engine is not installed\. Install no-such-engine\."):
        Program("no-such-engine").answer("ps")


def test_a_failure_carries_the_end_of_the_log():
    """The message is the last complaint; the log is its end."""
    with pytest.raises(ProgramFailed, match="no room") as failed:
        PYTHON.answer("-c", "import sys; print('\\n' * 3 + 'first', file=sys.stderr); sys.exit('Error: no room')")
    assert failed.value.log_tail == "first\nError: no room"


def test_what_takes_too_long_is_ended():
    """A program that outlives its time is an error, and is gone."""
    started = time.monotonic()
    for run in (PYTHON.answer, lambda *words, within: PYTHON.watch(*words, within=within, write=print)):
        with pytest.raises(ProgramFailed, match=r"did not end within 0\.5 s"):
            run("-c", "import time; time.sleep(60)", within=SHORT)
    assert time.monotonic() - started < 10


def test_lines_arrive_while_the_program_runs():
    """A long run is followed line by line, its last line without an end too."""
    seen: list[tuple[str, float]] = []
    script = "import time; print('one', flush=True); time.sleep(0.6); print('two', end='')"
    started = time.monotonic()
    PYTHON.watch("-u", "-c", script, within=None, write=lambda line: seen.append((line, time.monotonic() - started)))
    assert [line for line, _ in seen] == ["one", "two"]
    assert seen[1][1] - seen[0][1] > 0.3


def test_children_end_before_their_parent_which_may_tidy_up():
    """A program whose work is ended under it still does what it does at the end, and nothing of it is left."""
    script = (
        "import subprocess, sys\n"
        "code = subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)']).returncode\n"
        "print('tidied after', code, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 10
    while not (below := descendants(process.pid)):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    end_from_below(process)
    out, _ = process.communicate(timeout=5)
    assert out == b"tidied after -9\n"
    assert not [pid for pid in below if pid in descendants(1)]


def test_a_program_without_children_is_asked_to_end():
    """What runs nothing is ended itself."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True) as process:
        threading.Event().wait(0.1)
        end_from_below(process)
        assert process.returncode == -15


def test_the_tail_leaves_empty_lines_out():
    """Only lines that say something count."""
    assert tail("a\n\n b \n\n\nc\n", lines=2) == " b\nc"
