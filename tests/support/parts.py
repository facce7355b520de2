"""
The parts of a test run, as a pytest plugin: what runs side by side, what races real processes, and what soaks.

``scripts/run_tests.py`` runs one part after the other. Without ``--part`` every test runs but those that soak.
"""

from __future__ import annotations

import gc
import json
import os
import re
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

PARTS = ("parallel", "race", "soak")
MAY_BE_ABSENT = re.compile(r"\.\./shared/data|\btorch\b")
"""What a reason to skip speaks of where the test may skip in CI."""
SOAK_SECONDS = "MENDEL_SOAK_SECONDS"
_SOAK = pytest.StashKey[float]()
_QUICK_S = {"unit": 0.1, "contracts": 0.2, "integration": 1.0, "acceptance": 5.0}
"""What a test takes that is not marked ``slow``, by the folder that says how much of Mendel it starts."""
_SLOW_S = 10.0
"""What a test takes that is marked ``slow`` without saying how slow."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("parts of a run")
    group.addoption("--part", choices=PARTS, help="run this part alone")
    group.addoption("--results", help="write what the tests came to into this file, as JSON")
    group.addoption("--room", help="where expensive things are made once for several runs of pytest")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "race: races real processes; runs alone, and may be tried a second time")
    config.addinivalue_line("markers", f"soak: runs as long as {SOAK_SECONDS} says, in `make soak` only")
    if seconds := os.environ.pop(SOAK_SECONDS, None):  # Mendel refuses variables that it does not know
        config.stash[_SOAK] = float(seconds)
    if hasattr(config, "workerinput") and config.args == config.getini("testpaths"):
        config.args = _turned(config.args, config.workerinput)


def _turned(folders: list[str], worker: dict[str, Any]) -> list[str]:
    """All test files, begun at another place by each worker: it compiles other files first, and finds the rest done."""
    files = sorted(str(file) for folder in folders for file in Path(folder).rglob("test_*.py"))
    start = len(files) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
    return files[start:] + files[:start]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the byte-code of the tests, whatever the environment says to processes: compiling is half of collecting."""
    former, sys.dont_write_bytecode = sys.dont_write_bytecode, False
    try:
        return (yield)
    finally:
        sys.dont_write_bytecode = former


@pytest.fixture(scope="session")
def soak_seconds(pytestconfig: pytest.Config) -> float:
    """How long one soaking test may take."""
    return pytestconfig.stash.get(_SOAK, 60.0)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Files without a test of the asked part need not be imported."""
    part = config.getoption("part")
    if part in {"race", "soak"} and collection_path.suffix == ".py":
        return f"mark.{part}" not in collection_path.read_text(encoding="utf-8") or None
    return None


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Generator[None, None, None]:
    items.sort(key=lambda item: item.path)  # workers collect in different order
    yield
    part = config.getoption("part") or ("soak" if _SOAK in config.stash else None)
    chosen = [item for item in items if _belongs(item, part)]
    if left := [item for item in items if not _belongs(item, part)]:
        config.hook.pytest_deselected(items=left)
    items[:] = chosen if part == "race" else _longest_first(chosen)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Leave what was collected out of later garbage collections: it lives to the end, and is most of all objects."""
    gc.collect()
    gc.freeze()


def _belongs(item: pytest.Item, part: str | None) -> bool:
    soaks, races = (item.get_closest_marker(name) is not None for name in ("soak", "race"))
    if soaks or part == "soak":
        return soaks and part == "soak"
    return part is None or races == (part == "race")


def _longest_first(items: list[pytest.Item]) -> list[pytest.Item]:
    """Files with much that is slow first, so that the last to end are short; the tests of a file stay together."""
    seconds: dict[Path, float] = {}
    for item in items:
        seconds[item.path] = seconds.get(item.path, 0.0) + _seconds_of(item)
    return sorted(items, key=lambda item: -seconds[item.path])


def _seconds_of(item: pytest.Item) -> float:
    """Roughly what a test takes."""
    if slow := item.get_closest_marker("slow"):
        return float(next(iter(slow.args), _SLOW_S))
    return next((seconds for folder, seconds in _QUICK_S.items() if folder in item.path.parts), 0.0)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI"):
        reason = str(report.longrepr[2])
        if not MAY_BE_ABSENT.search(reason):
            report.outcome, report.longrepr = "failed", f"CI runs every test, but this one was skipped. {reason}"
    return report


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    file = session.config.getoption("results")
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if file is None or reporter is None or hasattr(session.config, "workerinput"):
        return

    def tests(*outcomes: str) -> set[str]:
        return {report.nodeid for outcome in outcomes for report in reporter.stats.get(outcome, [])}

    failed, skipped = tests("failed", "error"), reporter.stats.get("skipped", [])
    told = {
        "passed": len(tests("passed") - failed),
        "failed": sorted(failed),
        "skipped": len(skipped),
        "absent": sum(bool(MAY_BE_ABSENT.search(str(report.longrepr))) for report in skipped),
        "expected": len(tests("xfailed", "xpassed") - failed),
    }
    Path(file).write_text(json.dumps(told), encoding="utf-8")
