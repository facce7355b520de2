"""Modules import each other in one direction only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import grimp
import pytest

LAZY_SURFACE = "mendel"
"""The package itself imports what users ask of it when they ask; nothing below it runs at import time."""


def cycles_of(imports: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The groups of modules that import each other, directly or through others (Tarjan's algorithm)."""
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    cycles: list[list[str]] = []

    def visit(module: str) -> None:
        numbers[module] = lowest[module] = len(numbers)
        path.append(module)
        for imported in imports.get(module, ()):
            if imported not in numbers:
                visit(imported)
                lowest[module] = min(lowest[module], lowest[imported])
            elif imported in path:
                lowest[module] = min(lowest[module], numbers[imported])
        if lowest[module] == numbers[module]:
            start = path.index(module)
            group = path[start:]
            del path[start:]
            if len(group) > 1 or module in imports.get(module, ()):
                cycles.append(sorted(group))

    for module in sorted(imports):
        if module not in numbers:
            visit(module)
    return cycles


@pytest.mark.parametrize(
    ("imports", "cycles"),
    [
        ({"a": ["b"], "b": ["c"], "c": []}, []),
        ({"a": ["b"], "b": ["a", "c"], "c": []}, [["a", "b"]]),
        ({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]}, [["a", "b", "c"]]),
        ({"a": ["a"]}, [["a"]]),
    ],
)
def test_a_cycle_is_found(imports, cycles):
    """A chain and a module above a cycle are none; two and three modules in a ring, and one on itself, are."""
    assert cycles_of(imports) == cycles


def test_no_modules_import_each_other():
    """No module imports one that leads back to it, imports for type checkers and inside functions included."""
    graph = grimp.build_graph("mendel", cache_dir=None)
    imports = {
        module: sorted(graph.find_modules_directly_imported_by(module))
        for module in graph.modules
        if module != LAZY_SURFACE
    }
    assert len(imports) > 100
    assert cycles_of(imports) == []
