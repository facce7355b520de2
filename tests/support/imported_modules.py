"""
Modules of projects, benchmarks and examples in the test process, as a pytest plugin.

They have common names (``training``, ``model``). A later test of the process would import the module that
stays in ``sys.modules`` in place of its own. The last test of the file that left it fails, and the module is removed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_SHARED = tuple(
    f"{place}{os.sep}" for place in (sys.prefix, sys.base_prefix, *map(_ROOT.joinpath, ("src", "tests", "scripts")))
)
"""Where the modules are that every test may import: their names mean the same module everywhere."""


def forget_modules_below(*roots: Path) -> None:
    """Remove the modules whose files are below the directories *roots* from ``sys.modules``."""
    for name, place in _places().items():
        if any(Path(place).is_relative_to(root) for root in roots):
            del sys.modules[name]


def _places() -> dict[str, str]:
    """Give the file, or the directory, of each imported module that has one and that not every test may import."""
    found = {name: _place(vars(module)) for name, module in list(sys.modules.items()) if name != "__main__"}
    return {
        name: place
        for name, place in found.items()
        if place and not f"{place}{os.sep}".startswith(_SHARED) and _belongs_to_one_test(Path(place))
    }


def _belongs_to_one_test(file: Path) -> bool:
    return file.is_absolute() and not file.name.startswith(("test_", "conftest."))


def _place(values: dict[str, object]) -> str | None:
    """Give the file; a namespace package has only directories."""
    place = values.get("__file__")
    if place is None and isinstance(paths := values.get("__path__"), Iterable):
        place = next(iter(paths), None)
    return place if isinstance(place, str) else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, None, None]:
    yield
    if nextitem is not None and nextitem.path == item.path:
        return
    if left := _places():
        for name in left:
            del sys.modules[name]
        told = ", ".join(f"{name} ({place})" for name, place in left.items())
        pytest.fail(f"{item.path.name} left modules in sys.modules: {told}. Remove them after the test.", pytrace=False)
