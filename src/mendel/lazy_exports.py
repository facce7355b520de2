"""Packages that import what they export on first use, so that a command imports only what it needs."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any


def lazy_exports(package: str) -> Callable[[str], Any]:
    """
    Give the ``__getattr__`` of *package*, which imports a name from its module when the name is first used.

    The package imports its names in one block ``if TYPE_CHECKING:``, which type checkers and import linters read too,
    and assigns this function in the block's ``else:``. PEP 810 (``lazy from``, Python 3.15) makes this module
    superfluous.
    """

    @cache
    def modules() -> Mapping[str, str]:
        file = Path(str(sys.modules[package].__file__))
        return dict(_imports(ast.parse(file.read_text(encoding="utf-8"))))

    def imported(name: str) -> Any:
        if name.startswith("__") or name not in modules():
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(modules()[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    module = sys.modules[package]
    vars(module)["__dir__"] = lambda: sorted({*vars(module), *modules()})
    return imported


def _imports(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Yield each name that the block ``if TYPE_CHECKING:`` imports, with its module."""
    for block in tree.body:
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING":
            for statement in block.body:
                if isinstance(statement, ast.ImportFrom) and statement.module:
                    yield from ((name.name, statement.module) for name in statement.names)
