"""
Run every test: first most tests in parallel, then the tests marked ``race`` alone; the last line gives the result.

    python scripts/run_tests.py [PYTEST OPTIONS]

Only a test that is marked ``race`` may be tried a second time, once, in a separate process; the run fails if more than
three tests need a second try. The run also fails if pytest did not end normally, could not collect the tests, or ran no
test. ``MENDEL_TEST_WORKERS`` sets the number of parallel tests; ``auto`` means one per core. The default is 3, because
many tests wait for processes, so that two tests do not use two cores fully. Numerical libraries use one thread each:
threads that wait for a busy core spin, which made some tests three times as expensive.
"""

from __future__ import annotations

import compileall
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

MOST_SECOND_TRIES = 3
OK, TESTS_FAILED, NO_TESTS = 0, 1, 5
"""Exit codes of pytest after a run that came to its end."""
SIDE_BY_SIDE = ("--dist=loadfile", "--no-loadscope-reorder")
ALONE = ("-p", "no:xdist")
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
SLOWEST = "--durations=20"
SECOND_LOOK = "A second look at "


@dataclass(frozen=True, kw_only=True)
class Part:
    """What came of one run of pytest."""

    name: str
    code: int
    seconds: float
    may_be_empty: bool = False
    passed: int = 0
    failed: tuple[str, ...] = ()
    skipped: int = 0
    absent: int = 0
    expected: int = 0

    @property
    def whole(self) -> bool:
        """Whether it came to its end, so that what failed is all that failed."""
        if self.failed:
            return self.code == TESTS_FAILED
        return self.code == OK or (self.code == NO_TESTS and self.may_be_empty)

    def __str__(self) -> str:
        counts = f"{self.passed} passed, {len(self.failed)} failed, {self.skipped} skipped"
        broken = "" if self.whole else f"; it did not come to its end (pytest ended with {self.code})"
        return f"{self.name}: {counts} in {self.seconds:.0f} s{broken}"


@dataclass(kw_only=True)
class Run:
    """The parts so far, and the tests that were tried a second time."""

    room: Path
    options: tuple[str, ...]
    parts: list[Part] = field(default_factory=list)
    again: list[Part] = field(default_factory=list)

    def part(self, name: str, *arguments: str, options: tuple[str, ...] | None = None) -> Part:
        """Run pytest once."""
        print(f"\n== {name}", flush=True)
        results = self.room / f"results-{len(self.parts)}-{len(self.again)}.json"
        given = self.options if options is None else options
        ours = (*arguments, f"--results={results}", f"--room={self.room}", SLOWEST)
        start = time.monotonic()
        code = _code_of([sys.executable, "-m", "pytest", *given, *ours], {**ONE_THREAD, **os.environ})
        seconds = time.monotonic() - start
        if not results.exists():
            return Part(name=name, code=code or TESTS_FAILED, seconds=seconds)
        told = json.loads(results.read_text())
        failed = tuple(told.pop("failed"))
        return Part(name=name, code=code, seconds=seconds, may_be_empty=bool(given), failed=failed, **told)

    def play(self, workers: str) -> bool:
        """All parts; whether the run is good."""
        name = f"Side by side, {workers} at a time"
        self.parts.append(self.part(name, "--part=parallel", "-n", workers, *SIDE_BY_SIDE))
        race = self.part("Races, one at a time", "--part=race", *ALONE)
        self.parts.append(race)
        if race.whole and len(race.failed) <= MOST_SECOND_TRIES:
            for test in race.failed:
                self.again.append(self.part(SECOND_LOOK + test, test, *ALONE, options=()))
        return self._told(race)

    def _told(self, race: Part) -> bool:
        """Print what came of it all."""
        mended = [part for part in self.again if part.code == OK]
        failed = sum(len(part.failed) for part in self.parts) - len(mended)
        print("\n== All together")
        for part in self.parts:
            print(part)
        if len(race.failed) > MOST_SECOND_TRIES:
            print(f"{len(race.failed)} tests that race failed; at most {MOST_SECOND_TRIES} may be tried a second time")
        print(f"Needed a second try (at most {MOST_SECOND_TRIES} may): {len(mended)}")
        for part in mended:
            print(f"  {part.name.removeprefix(SECOND_LOOK)}")
        passed = sum(part.passed for part in self.parts) + len(mended)
        skipped = sum(part.skipped for part in self.parts)
        if absent := sum(part.absent for part in self.parts):
            print(f"Skipped because ../shared/data or torch is absent: {absent}")
        if expected := sum(part.expected for part in self.parts):
            print(f"Failed as expected: {expected}")
        ran = any(part.passed or part.failed for part in self.parts)
        if not ran:
            print("No test ran.")
        print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
        return ran and not failed and all(part.whole for part in self.parts)


def _code_of(command: list[str], environment: dict[str, str]) -> int:
    """The exit code. Ctrl-C reaches pytest too, which tidies up and ends; the run ends after it."""
    with subprocess.Popen(command, env=environment) as process:  # noqa: S603 - pytest, with the options of the caller
        return process.wait()


def main() -> int:
    """Compile the sources once, for the many processes that tests start; then all parts."""
    workers = os.environ.pop("MENDEL_TEST_WORKERS", "") or "3"
    compileall.compile_dir("src", quiet=2, workers=0)
    with tempfile.TemporaryDirectory(prefix="mendel-tests-", ignore_cleanup_errors=True) as room:
        run = Run(room=Path(room), options=tuple(sys.argv[1:]))
        try:
            return 0 if run.play(workers) else 1
        except KeyboardInterrupt:
            print("Interrupted.", file=sys.stderr)
            return 130


if __name__ == "__main__":
    sys.exit(main())
