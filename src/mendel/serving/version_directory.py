"""Write and read the directory of a registered model version, which images contain and ``--artifact`` takes."""

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
    """The content of ``version.json``: the name of a model, and the facts about one version that a server needs."""

    model: ModelName
    version: ServedVersion


def write_version_directory(directory: Path, model: ModelName, served: ServedVersion, tree: Path) -> None:
    """
    Write ``version.json`` and the files of the artefact *tree*, as ``artifact/``, into *directory*.

    *directory* is created if absent. The same input gives the same bytes; file modes and times are not copied.

    Raises:
        InvalidValue: *directory* is not empty.
        DigestMismatch: *tree* does not have the digest that *served* states.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise InvalidValue(f"Directory {directory} is not empty.", remedy="Give an empty directory.")
    _check(tree, served)
    for name, path in tree_files(tree, exclude=("data",)):
        target = directory / ARTIFACT / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    (directory / VERSION_FILE).write_bytes(to_json(CarriedVersion(model=model, version=served)))


def read_version_directory(directory: Path) -> CarriedVersion:
    """
    Read ``version.json`` in *directory*; the digest of the artefact in ``artifact/`` is not checked.

    Raises:
        ArtifactNotFound: ``version.json`` or ``artifact/`` does not exist.
        InvalidValue: ``version.json`` is invalid.
    """
    path = directory / VERSION_FILE
    if not path.is_file() or not (directory / ARTIFACT).is_dir():
        raise ArtifactNotFound(
            f"Directory {directory} holds no model version; it needs {VERSION_FILE} and {ARTIFACT}/.",
            remedy="Give --artifact the directory of a registered version.",
        )
    return from_json(path.read_bytes(), CarriedVersion)


def _check(tree: Path, served: ServedVersion) -> None:
    found = tree_digest(tree, exclude=("data",))
    if found != served.artifact_digest:
        raise DigestMismatch(f"The artefact in {tree} has digest {found}, not {served.artifact_digest}.")
