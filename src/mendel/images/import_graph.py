"""Find the project files that a module imports, directly and indirectly, by parsing; no project code is imported."""
# ruff: noqa: PTH112, PTH113, PTH114 - Path's methods raise for an unreadable directory

from __future__ import annotations

import ast
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from os.path import isdir, isfile, islink
from pathlib import Path

_COMPILED = re.compile(r"\.(?:cpython-\w+(?:-[\w-]+)?|abi3)?\.?so")
_IMPORTERS = {"import_module", "__import__"}
_PATH_CHANGES = {"insert", "append", "extend"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportGraph:
    """
    The project files that some modules import.

    Attributes:
        files: POSIX paths relative to the project, sorted, including the files of the starting modules.
        reasons: Errors that prevented parsing, such as syntax errors with file and line.
        hints: Imports that parsing cannot resolve: computed module names, a changed ``sys.path``.
    """

    files: tuple[str, ...]
    reasons: tuple[str, ...]
    hints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _ImportedName:
    """An imported module; ``members`` are names that may be submodules; ``star`` is True for ``import *``."""

    module: str
    members: tuple[str, ...] = ()
    star: bool = False


def module_files(directory: Path, name: str) -> tuple[tuple[str, ...], bool]:
    """
    Find the files below *directory* that importing the dotted *name* reads, and tell whether the whole name was found.

    The search follows Python's order in each directory: package, compiled module, module, directory without
    ``__init__.py``. The ``__init__.py`` of parent packages are included. Installed packages are ignored: the project
    comes first on ``sys.path``. Only a directory without ``__init__.py`` would be
    replaced by an installed package; including its files is harmless.
    """
    found: list[str] = []
    place, inside = directory, ""
    parts = name.split(".")
    for index, part in enumerate(parts):
        package, module = place / part / "__init__.py", place / f"{part}.py"
        if isfile(package):
            found.append(f"{inside}{part}/__init__.py")
        elif (compiled := _compiled(place, part)) is not None:
            return (*found, f"{inside}{compiled}"), index == len(parts) - 1
        elif isfile(module) or islink(module):
            return (*found, f"{inside}{part}.py"), index == len(parts) - 1
        elif not isdir(place / part):
            return tuple(found), False
        place, inside = place / part, f"{inside}{part}/"
    return tuple(found), bool(found)


def import_graph(directory: Path, modules: Iterable[str], read: Callable[[str], bytes | None]) -> ImportGraph:
    """
    Follow the imports of *modules* (dotted names) through the project in *directory*.

    Every import counts: in functions, in ``try``, under conditions, and ``import_module`` with a literal name.

    Args:
        read: Gives the content of a file by its POSIX path; None leaves the file out of the graph.
    """
    graph = _ImportWalk(directory, read)
    for module in modules:
        graph.want(_ImportedName(module))
    graph.follow()
    return ImportGraph(
        files=tuple(sorted(graph.files)), reasons=tuple(graph.reasons), hints=tuple(dict.fromkeys(graph.hints))
    )


class _ImportWalk:
    """Collects the files of an import graph; ``want`` adds an import, ``follow`` parses until no file is left."""

    def __init__(self, directory: Path, read: Callable[[str], bytes | None]) -> None:
        self._directory = directory
        self._read = read
        self._waiting: list[str] = []
        self._trees: dict[str, ast.Module | None] = {}
        self.files: set[str] = set()
        self.reasons: list[str] = []
        self.hints: list[str] = []

    def want(self, wanted: _ImportedName) -> None:
        if not _is_dotted(wanted.module) or wanted.module.partition(".")[0] == "mendel":
            return
        files, whole = module_files(self._directory, wanted.module)
        self._enqueue(files)
        members = wanted.members
        if wanted.star and whole and files:
            members = _public_names(self._tree(files[-1]))
        for member in members:
            if member.isidentifier():
                self._enqueue(module_files(self._directory, f"{wanted.module}.{member}")[0])

    def follow(self) -> None:
        while self._waiting:
            path = self._waiting.pop()
            tree = self._tree(path)
            if tree is not None:
                for wanted in _imports(tree, _package_of(path)):
                    self.want(wanted)
                self.hints.extend(f"{path}:{line} {what}" for line, what in _untold(tree))

    def _enqueue(self, files: Iterable[str]) -> None:
        new = [path for path in files if path not in self.files]
        self.files.update(new)
        self._waiting.extend(new)
        for path in new:
            top = path.partition("/")[0].removesuffix(".py")
            if top in sys.stdlib_module_names:
                self.hints.append(f"{path} hides the module {top} of Python's standard library.")

    def _tree(self, path: str) -> ast.Module | None:
        if path not in self._trees:
            self._trees[path] = self._parsed(path)
        return self._trees[path]

    def _parsed(self, path: str) -> ast.Module | None:
        if path.endswith(".so"):
            self.hints.append(
                f"{path} is a compiled module, which works with one Python version and one processor type only."
            )
            return None
        content = self._read(path)
        if content is None:
            self.files.discard(path)
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # hide warnings about escapes in the user's code
                return ast.parse(content)
        except SyntaxError as error:
            where = path if error.lineno is None else f"{path}:{error.lineno}"
            running = f"{sys.version_info.major}.{sys.version_info.minor}"
            self.reasons.append(f"{where}: the file is not Python {running}: {error.msg}")
        except (ValueError, RecursionError, MemoryError) as error:
            self.reasons.append(f"{path}: the file cannot be parsed as Python: {error or type(error).__name__}")
        return None


def _compiled(place: Path, name: str) -> str | None:
    """Find the file of a compiled module *name* in the directory *place*; among several, the first by name."""
    found = (file.name for file in place.glob(f"{name}.*so") if _COMPILED.fullmatch(file.name.removeprefix(name)))
    return min(found, default=None)


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _package_of(path: str) -> str:
    """Give the package that relative imports in the file *path* start from; empty at the top."""
    return path.rpartition("/")[0].replace("/", ".")


def _absolute(package: str, level: int, module: str) -> str | None:
    """Resolve a relative import to an absolute name; None when it leaves the project's packages."""
    if level == 0:
        return module
    parts = package.split(".") if package else []
    if level > len(parts):
        return None
    kept = parts[: len(parts) - level + 1]
    return ".".join([*kept, module] if module else kept)


def _imports(tree: ast.Module, package: str) -> Iterator[_ImportedName]:
    aliases = _aliases(tree)
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                yield from (_ImportedName(alias.name) for alias in node.names)
            case ast.ImportFrom():
                base = _absolute(package, node.level, node.module or "")
                if base:
                    names = tuple(alias.name for alias in node.names)
                    yield _ImportedName(base, names, star="*" in names)
            case ast.Call(func=func, args=[ast.Constant(value=str(name)), *more]) if _is_importer(func, aliases):
                base = _named(name, more, package)
                if base:
                    yield _ImportedName(base)


def _named(name: str, more: list[ast.expr], package: str) -> str | None:
    """
    Give the module that ``import_module(name, package)`` imports.

    If the argument *package* of the call is not a literal, the package of the importing module is used.
    """
    bare = name.lstrip(".")
    given = more[0].value if more and isinstance(more[0], ast.Constant) and isinstance(more[0].value, str) else package
    return _absolute(given, len(name) - len(bare), bare)


def _aliases(tree: ast.Module) -> frozenset[str]:
    """Give the names by which the module calls ``import_module`` and ``__import__``."""
    renamed = (
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "importlib"
        for alias in node.names
        if alias.asname and alias.name in _IMPORTERS
    )
    return frozenset({*_IMPORTERS, *renamed})


def _is_importer(func: ast.expr, aliases: frozenset[str]) -> bool:
    match func:
        case ast.Name(id=name):
            return name in aliases
        case ast.Attribute(attr=name):
            return name in _IMPORTERS
    return False


def _untold(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and hint for each import that parsing cannot resolve."""
    aliases = _aliases(tree)
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=func, args=[first, *_]) if _is_importer(func, aliases) and not isinstance(
                first, ast.Constant
            ):
                yield node.lineno, "imports a module by a computed name: list the module's file in build.include_files."
            case ast.Call(func=ast.Attribute(value=ast.Attribute(value=ast.Name(id="sys"), attr="path"), attr=change)):
                if change in _PATH_CHANGES:
                    yield (
                        node.lineno,
                        (
                            "changes sys.path: list the files that are imported from the new directories "
                            "in build.include_files."
                        ),
                    )


def _public_names(tree: ast.Module | None) -> tuple[str, ...]:
    """Give the names in a module's ``__all__``; ``import *`` imports those that are submodules."""
    if tree is None:
        return ()
    names: list[str] = []
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            value = getattr(node, "value", None)
            names.extend(
                item.value
                for item in getattr(value, "elts", ())
                if isinstance(item, ast.Constant) and isinstance(item.value, str)
            )
    return tuple(names)
