"""The rule of `make test`: what is tried a second time, and what fails the run, shown on small suites of tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
HEAD = """
import os
from pathlib import Path
import pytest

def turn(name):
    "How often this was called with the name, now included."
    with Path(name).open("a") as file:
        file.write("x")
    return len(Path(name).read_text())
"""
PASSES = "def test_passes(): pass\n"
ONE_THREAD = "def test_threads(): assert os.environ['OMP_NUM_THREADS'] == '1'\n"
RACES_WITH_ONE_THREAD = f"@pytest.mark.race\n{ONE_THREAD.replace('threads', 'race_threads', 1)}"
FAILS = "def test_fails():\n    turn('ordinary')\n    assert False\n"
RACE_PASSES = "@pytest.mark.race\ndef test_race(): pass\n"
LOST_ONCE = "@pytest.mark.race\ndef test_lost_once():\n    assert turn('lost') == 2\n"
LOST_TWICE = "@pytest.mark.race\ndef test_lost_twice():\n    turn('lost twice')\n    assert False\n"
FOUR_LOST = """
@pytest.mark.race
@pytest.mark.parametrize("n", range(4))
def test_four(n):
    assert turn(str(n)) > 1
"""
DIES = "def test_dies(): os._exit(3)\n"
NO_DATA = "def test_data(): pytest.skip('needs ../shared/data/credit.csv')\n"
NO_PROGRAM = "def test_program(): pytest.skip('needs podman')\n"


@pytest.fixture
def run(tmp_path):
    """Runs a suite of the given tests; the exit code, all that was printed, and the last line."""

    def make(*tests, options=(), **environment):
        (tmp_path / "test_suite.py").write_text(HEAD + "\n".join(tests))
        (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "MENDEL_"))}
        for name in ("CI", "OMP_NUM_THREADS"):
            inherited.pop(name, None)
        plugins = {
            "PYTHONPATH": str(ROOT / "tests"),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # half of the time
            "PYTEST_PLUGINS": "xdist.plugin,support.parts",
            "MENDEL_TEST_WORKERS": "1",
        }
        done = subprocess.run(
            [sys.executable, str(ROOT / "scripts" / "run_tests.py"), *options],
            cwd=tmp_path,
            env={**inherited, **plugins, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        return done.returncode, done.stdout, done.stdout.splitlines()[-1]

    return make


def test_a_race_that_is_lost_once_is_run_again_and_counted(run):
    """
    A test marked race that fails once is tried a second time; the run is good, and says which test it was. Numerical
    libraries have one thread in every part.
    """
    code, said, last = run(PASSES, LOST_ONCE, RACE_PASSES, NO_DATA, ONE_THREAD, RACES_WITH_ONE_THREAD, CI="1")
    assert code == 0, said
    assert last == "5 passed, 0 failed, 1 skipped"
    assert "Needed a second try (at most 3 may): 1\n  test_suite.py::test_lost_once\n" in said
    assert "Skipped because ../shared/data or torch is absent: 1\n" in said


def test_nothing_else_is_run_again(run, tmp_path):
    """A test that is not marked race runs once; a race that is lost twice has failed; in CI a skipped test has too."""
    code, said, last = run(PASSES, FAILS, LOST_TWICE, LOST_ONCE, NO_PROGRAM, CI="1")
    assert code == 1
    assert last == "2 passed, 3 failed, 0 skipped"
    assert (tmp_path / "ordinary").read_text() == "x"
    assert (tmp_path / "lost twice").read_text() == "xx"
    assert "CI runs every test, but this one was skipped. needs podman" in said.replace("Skipped: ", "")


def test_more_than_three_second_tries_fail_the_run(run, tmp_path):
    """Four races that are lost fail the run, and none of them is tried again."""
    code, said, last = run(PASSES, FOUR_LOST)
    assert code == 1
    assert last == "1 passed, 4 failed, 0 skipped"
    assert "4 tests that race failed; at most 3 may be tried a second time" in said
    assert (tmp_path / "0").read_text() == "x"


def test_a_worker_that_dies_fails_the_run(run):
    """A test that takes its worker with it has failed, and the others run."""
    code, said, last = run(PASSES, DIES, RACE_PASSES)
    assert code == 1, said
    assert last == "2 passed, 1 failed, 0 skipped"


def test_a_part_that_dies_fails_the_run(run):
    """When pytest itself dies in the midst of the races, the run is bad although no test is known to have failed."""
    code, said, last = run(PASSES, f"@pytest.mark.race\n{DIES}")
    assert code == 1
    assert last == "1 passed, 0 failed, 0 skipped"
    assert "it did not come to its end (pytest ended with 3)" in said


def test_a_suite_that_cannot_be_collected_fails_the_run(run):
    """A file that cannot be imported fails the run, whatever else passes."""
    code, said, _ = run(PASSES, RACE_PASSES, "import no_such_module\n")
    assert code == 1
    assert "it did not come to its end" in said


def test_no_test_is_no_success(run):
    """A run in which no test ran is bad; with options that choose, one part alone may be empty."""
    code, said, last = run(PASSES, RACE_PASSES, options=("-k", "nothing"))
    assert (code, last) == (1, "0 passed, 0 failed, 0 skipped")
    assert "No test ran." in said
    code, said, last = run(PASSES, RACE_PASSES, options=("-k", "passes"))
    assert (code, last) == (0, "1 passed, 0 failed, 0 skipped"), said
    assert run(PASSES)[0] == 1
