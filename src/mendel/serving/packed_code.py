"""Store the caller's own Python modules in an artefact, and import them when the artefact is loaded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from mendel.errors import InvalidInput, ModelNotLoadable
from mendel.serving.mlmodel import Mlmodel
from mendel.serving.project_imports import ProjectModules

CODE: Final = "code"
"""The directory of the packed code in an artefact, and the key of MLflow's sections that names the directory."""

BY_VALUE: Final = "pickled_by_value"
"""The key of a section that lists the modules whose code is inside the pickle; absent when no module is."""

_MAX_FILES: Final = 10_000
_MAX_BYTES: Final = 100 << 20
_LEFT_OUT: Final = frozenset({"__pycache__"})


def pack_code(paths: Sequence[str | Path], directory: Path) -> None:
    """
    Copy the files and directories *paths* into ``code/`` of the artefact in *directory*, as MLflow does.

    ``["features.py", "lib/encoders"]`` makes the modules ``features`` and ``encoders`` importable. Hidden files and
    byte-code are left out.

    Raises:
        InvalidInput: A path does not exist, has the name of another path, contains a link that leads out of the path or
            a special file, or is too large.
    """
    if isinstance(paths, str | Path):
        raise InvalidInput("code_paths is a single path.", remedy=f"Give a list: [{str(paths)!r}].")
    files = [(name, path) for given in paths for name, path in _files(Path(given))]
    if twice := _twice([Path(given).resolve().name for given in paths]):
        raise InvalidInput(f"code_paths contains two paths named {twice!r}.", remedy="Rename one of the two.")
    if len(files) > _MAX_FILES or sum(path.stat().st_size for _, path in files) > _MAX_BYTES:
        raise InvalidInput(
            f"code_paths contains more than {_MAX_FILES} files or {_MAX_BYTES >> 20} MiB.",
            remedy="Give only the directories that contain the model's modules.",
        )
    for name, path in files:
        target = directory / CODE / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def with_code(flavors: Mapping[str, Mapping[str, Any]], directory: Path) -> dict[str, dict[str, Any]]:
    """Add the directory ``code/`` to each section of *flavors*, if the artefact in *directory* has packed code."""
    packed = (directory / CODE).is_dir()
    return {name: {**section, **({CODE: CODE} if packed else {})} for name, section in flavors.items()}


def carries_code(mlmodel: Mlmodel) -> bool:
    """Tell whether the artefact contains the caller's code, packed in ``code/`` or inside its pickle."""
    return any(section.get(CODE) or section.get(BY_VALUE) for section in mlmodel.flavors.values())


def is_packed(directory: Path, module: str) -> bool:
    """Tell whether ``code/`` of the artefact in *directory* contains *module*, a full name with dots."""
    place = directory.joinpath(CODE, *module.split("."))
    return place.with_name(f"{place.name}.py").is_file() or place.is_dir()


@contextmanager
def packed_code_opened(directory: Path, mlmodel: Mlmodel) -> Iterator[None]:
    """
    Let imports in this thread find the modules stored in the artefact in *directory* while the context is open.

    Every artefact uses its own modules: two versions may pack different modules with the same name.

    Raises:
        ModelNotLoadable: The MLmodel names a code directory that is missing or outside the artefact.
    """
    root = packed_root(directory, mlmodel)
    if root is None:
        yield
        return
    with ProjectModules(root).opened():
        yield


def packed_root(directory: Path, mlmodel: Mlmodel) -> Path | None:
    """
    Give the directory of the modules stored in the artefact in *directory*; None for an artefact without modules.

    Raises:
        ModelNotLoadable: The MLmodel names a code directory that is missing or outside the artefact.
    """
    named = next((section[CODE] for section in mlmodel.flavors.values() if section.get(CODE)), None)
    if named is None:
        return None
    root = (directory / str(named)).resolve()
    if not root.is_relative_to(directory.resolve()) or not root.is_dir():
        raise ModelNotLoadable(f"The artefact has no directory {str(named)!r}, which its MLmodel names as code.")
    return root


def _files(given: Path) -> Iterator[tuple[str, Path]]:
    if given.is_symlink():
        raise InvalidInput(f"code_paths: {given} is a link.", remedy="Give the file or directory that the link names.")
    root = given.resolve()
    if not root.exists():
        raise InvalidInput(f"code_paths: {given} does not exist.", remedy="Give existing files and directories.")
    if root.is_file():
        yield root.name, root
        return
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        if any(part.startswith(".") or part in _LEFT_OUT for part in inside.parts):
            continue
        leads_out = path.is_symlink() and not path.resolve().is_relative_to(root)
        if leads_out or not (path.is_file() or path.is_dir()) or (path.is_symlink() and path.is_dir()):
            raise InvalidInput(
                f"code_paths: {path} is a link that leads out of {given}, a link to a directory, or a special file.",
                remedy="Replace the link by a copy of its target.",
            )
        if path.is_file() and path.suffix != ".pyc":
            yield f"{root.name}/{inside.as_posix()}", path


def _twice(names: Sequence[str]) -> str | None:
    return next((name for name in names if names.count(name) > 1), None)
