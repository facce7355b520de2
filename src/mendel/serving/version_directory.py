"""A registered version in a directory of its own, as an image carries it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mendel.errors import ArtifactNotFound, DigestMismatch, InvalidValue
from mendel.values import ModelName, ServedVersion, from_json, to_json
from mendel.values.directory_trees import tree_digest, tree_files

VERSION_FILE: Final = "version.json"
ARTIFACT: Final = "artifact"


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedVersion:
    """``version.json``: a model's name, and what a server must know of one version of it."""

    model: ModelName
    version: ServedVersion


def write_version_directory(directory: Path, model: ModelName, served: ServedVersion, tree: Path) -> None:
    """
    Write ``version.json`` and the served files of *tree* as ``artifact/`` into *directory*, which is made.

    Same input, same bytes. Files are copied one by one, whatever their size; modes and times are not kept.

    Raises:
        InvalidValue: *directory* is not empty.
        DigestMismatch: *tree* is not what *served* says.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise InvalidValue(f"{directory} is not empty.")
    _check(tree, served)
    for name, path in tree_files(tree, exclude=("data",)):
        target = directory / ARTIFACT / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (directory / VERSION_FILE).write_bytes(to_json(CarriedVersion(model=model, version=served)))


def read_version_directory(directory: Path) -> CarriedVersion:
    """
    The version that *directory* carries; its artefact is below :data:`ARTIFACT`, and is checked where it is loaded.

    Raises:
        ArtifactNotFound: There is none.
        InvalidValue: ``version.json`` cannot be read as one.
    """
    path = directory / VERSION_FILE
    if not path.is_file() or not (directory / ARTIFACT).is_dir():
        raise ArtifactNotFound(
            f"{directory} holds no version: {VERSION_FILE} and {ARTIFACT}/ are needed.",
            remedy="Give --artifact the directory of a registered version.",
        )
    return from_json(path.read_bytes(), CarriedVersion)


def _check(tree: Path, served: ServedVersion) -> None:
    found = tree_digest(tree, exclude=("data",))
    if found != served.artifact_digest:
        raise DigestMismatch(f"The artefact in {tree} has digest {found}, not {served.artifact_digest}.")
