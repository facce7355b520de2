"""Store the files of a project's release in an artefact, so that each version runs with its own code."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mendel.errors import InvalidProject, ModelNotLoadable, ProjectNotFound
from mendel.projects import Project, load_project
from mendel.serving.mlmodel import Mlmodel

CARRIED: Final = "project"
"""The directory of the project's files in an artefact."""


def carry_project(files: Mapping[str, Path], directory: Path) -> None:
    """
    Copy *files* into ``project/`` of the artefact in *directory*.

    Args:
        files: The file to copy by its path in the project.
    """
    for name, source in sorted(files.items()):
        target = directory / CARRIED / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def carried_root(directory: Path, mlmodel: Mlmodel) -> Path | None:
    """
    Give the directory of the project's files in the artefact in *directory*; None for an artefact without them.

    Raises:
        ModelNotLoadable: The MLmodel says that the artefact has them, and the directory is missing.
    """
    if not mlmodel.carries_project:
        return None
    root = directory / CARRIED
    if not root.is_dir() or root.is_symlink():
        raise ModelNotLoadable(f"The artefact has no directory {CARRIED!r}, which its MLmodel names.")
    return root.resolve()


def project_of(directory: Path, mlmodel: Mlmodel, hosted: Project | None) -> Project | None:
    """
    Give the project with whose code the artefact in *directory* runs: its own if it has one, else the *hosted* one.

    Raises:
        ModelNotLoadable: The artefact's own project cannot be read.
    """
    root = carried_root(directory, mlmodel)
    if root is None:
        return hosted
    try:
        project = load_project(root)
    except (InvalidProject, ProjectNotFound) as error:
        raise ModelNotLoadable(f"The project in the artefact cannot be read: {error.message}") from error
    if project.root.resolve() != root:  # the files of a directory above are not the artefact's
        raise ModelNotLoadable("The project in the artefact has no configuration file.")
    return project
