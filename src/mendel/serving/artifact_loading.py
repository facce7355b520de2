"""From an artefact's directory to a predictor. Here, and in runners, is the only place where pickles are read."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mendel.errors import DigestMismatch, ModelNotLoadable
from mendel.projects import Project
from mendel.serving.flavours.flavour_table import flavour_of
from mendel.serving.mlmodel import read_mlmodel
from mendel.serving.predictor import Predictor
from mendel.values import Digest
from mendel.values.directory_trees import tree_digest


def load_predictor(directory: Path, *, digest: Digest | None, project: Project | None) -> Predictor:
    """
    Load the predictor of the artefact in *directory*.

    Args:
        digest: What the directory's content must hash to, checked before anything of it is read; None trusts it.
        project: Gives the code of its classifiers; None where no project is hosted.

    Raises:
        DigestMismatch: The content is another.
        ModelNotLoadable: It cannot be read, its code cannot be imported, or it needs a package that is not installed.
    """
    if digest is not None and (found := tree_digest(directory, exclude=("data",))) != digest:
        raise DigestMismatch(f"The artefact has digest {found}, not {digest}.", remedy="Fetch it again.")
    mlmodel = read_mlmodel(directory)
    flavour = flavour_of(mlmodel)
    try:
        return flavour.load(directory, mlmodel, project)
    except ModelNotLoadable as error:
        differing = _differing_versions(flavour.describe(mlmodel).versions)
        if error.remedy or not differing:
            raise
        raise ModelNotLoadable(
            error.message, remedy=f"Load it with the versions it was written with: {differing}."
        ) from error


def _differing_versions(written: Mapping[str, str]) -> str:
    """``scikit-learn 1.3.2 (here 1.9.1)`` for every distribution that is installed here in another version."""
    return ", ".join(
        f"{name} {number} (here {_installed(name)})" for name, number in written.items() if _installed(name) != number
    )


def _installed(distribution: str) -> str:
    if distribution == "python":
        return platform.python_version()
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "none"
