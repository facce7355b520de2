"""Import the modules of a project without leaving them in ``sys.modules``, so that two projects do not collide."""

from __future__ import annotations

import builtins
import importlib
import importlib.machinery
import importlib.util
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

_SWAP = threading.RLock()
"""Locks ``sys.modules`` and ``sys.meta_path``, which all threads share, while a project's modules are in them."""

_LEVEL = 3
"""The index of ``level`` among the arguments of ``__import__`` that follow the name."""


class ProjectModules:
    """
    The Python modules of one project, isolated from modules of the same name in the process.

    Two projects may each have a ``model.py``; neither stays in ``sys.modules``. An import inside a function of the
    project finds the project's modules too, even when the function runs later.

    Args:
        root: The directory of the project.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._finder = _Finder(self)
        self._own: dict[str, ModuleType] = {}
        self._open = False
        self._builtins = {**vars(builtins), "__import__": self._import}

    def load(self, name: str) -> ModuleType:
        """Import the module *name* of the project; an exception of its code passes through."""
        with self.opened():
            return importlib.import_module(name)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """
        Let imports and unpickling in this thread find the project's modules while the context is open.

        The context is reentrant, because every import statement of a project's module opens it again: a package whose
        import is not finished must stay in ``sys.modules``, else its submodules would import it again without end.

        Contexts of several threads are open one after the other, for as long as each takes. A lock for the changes of
        ``sys.modules`` alone would not do: unpickling looks every class up in ``sys.modules``, which all threads share,
        and two versions may have different modules of one name.
        """
        with _SWAP:
            if self._open:  # by this thread, which holds the lock
                yield
                return
            imported = list(sys.modules.items())  # other threads may import meanwhile
            claimed = {top for top in {name.partition(".")[0] for name, _ in imported} if self._claims(top)}
            foreign = {name: module for name, module in imported if name.partition(".")[0] in claimed}
            for name in foreign:
                del sys.modules[name]
            sys.modules.update(self._own)
            sys.meta_path = [self._finder, *sys.meta_path]  # a new list: another thread may iterate over the old one
            self._open = True
            try:
                yield
            finally:
                self._open = False
                sys.meta_path = [finder for finder in sys.meta_path if finder is not self._finder]
                self._own.update(
                    {name: sys.modules.pop(name) for name in list(sys.modules) if name in self._finder.found}
                )
                sys.modules.update(foreign)

    def spec(self, name: str, path: Sequence[str] | None) -> importlib.machinery.ModuleSpec | None:
        """Give the import spec of the module *name*; None if the module does not belong to the project."""
        if name.partition(".")[0] in sys.stdlib_module_names:
            return None
        found = importlib.machinery.PathFinder.find_spec(name, [str(self._root)] if path is None else path)
        if found is None or not self._holds(found):
            return None
        if found.origin is None and path is None:  # as in Python, an installed package goes before a plain directory
            installed = importlib.machinery.PathFinder.find_spec(name)
            if installed is not None and installed.origin is not None:
                return None
        if found.origin is not None and isinstance(found.loader, importlib.machinery.SourceFileLoader):
            found.loader = _Loader(name, found.origin, self._builtins)
        return found

    def _holds(self, spec: importlib.machinery.ModuleSpec) -> bool:
        places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
        return any(Path(place).resolve().is_relative_to(self._root) for place in places)

    def _claims(self, name: str) -> bool:
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or top == "mendel":
            return False
        return top in {own.partition(".")[0] for own in self._own} or self._has(top)

    def _has(self, top: str) -> bool:
        return (self._root / f"{top}.py").is_file() or (self._root / top / "__init__.py").is_file()

    def _import(self, name: str, *args: Any, **kwargs: Any) -> ModuleType:
        """Import for the project's code; a module of others needs no lock, which the thread of a load may hold."""
        relative = kwargs.get("level") or (len(args) > _LEVEL and args[_LEVEL])
        top = name.partition(".")[0]
        if not relative and (top in sys.stdlib_module_names or not (self._claims(name) or (self._root / top).is_dir())):
            return builtins.__import__(name, *args, **kwargs)
        with self.opened():
            return builtins.__import__(name, *args, **kwargs)


class _Finder:
    """The import finder of a project's modules; ``found`` records their names."""

    def __init__(self, modules: ProjectModules) -> None:
        self._modules = modules
        self.found: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        spec = self._modules.spec(name, path)
        if spec is not None:
            self.found.add(name)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a project module with an ``__import__`` that finds the project's modules; writes no bytecode files."""

    def __init__(self, name: str, path: str, own_builtins: dict[str, Any]) -> None:
        super().__init__(name, path)
        self._builtins = own_builtins

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = self._builtins
        super().exec_module(module)

    def set_data(self, path: str, data: Any, *, _mode: int = 0o666) -> None:
        """Write no file: a project may be read-only, and serving a project must not change its directory."""
