"""Find artefacts that clients load by path, only below the directories in ``serving.model_roots``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from mendel.errors import Forbidden, InvalidRequest, ModelNotLoadable
from mendel.serving.flavours.flavour_table import flavour_of
from mendel.serving.mlmodel import read_mlmodel
from mendel.serving.unregistered_version import unregistered_model
from mendel.values import DesiredModel, ModelName
from mendel.values.directory_trees import tree_digest


def model_directory(path: str, roots: Sequence[Path]) -> Path:
    """
    Find the directory *path*, absolute or relative to one of *roots*, with every symbolic link resolved.

    Raises:
        Forbidden: *path* is not a directory below one of *roots*; the message does not reveal whether it exists.
    """
    for root in roots:
        try:
            place, found = root.resolve(strict=True), (root / path).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):
            continue
        if found.is_relative_to(place) and found.is_dir():
            return found
    where = ", ".join(map(str, roots)) or "it is empty"
    raise Forbidden(
        "The model path is not a directory below one of the directories in serving.model_roots.",
        remedy=f"Give a directory below a directory in serving.model_roots ({where}).",
    )


def model_from_directory(model: ModelName, directory: Path, *, attempt: int, now: datetime) -> DesiredModel:
    """
    Make the desired state that serves the unregistered artefact in *directory* under the name *model*.

    Args:
        attempt: Counts the loads of *model* by path, from 1.

    Raises:
        InvalidInput: The directory does not contain an artefact, or contains a symbolic link or a special file.
    """
    try:
        mlmodel = read_mlmodel(directory)
        flavour = flavour_of(mlmodel)
    except ModelNotLoadable as error:
        raise InvalidRequest(error.message, remedy=error.remedy) from error
    try:
        digest = tree_digest(directory, exclude=("data",))
    except OSError as error:
        raise InvalidRequest(f"The model directory cannot be read: {error.strerror}.") from error
    return unregistered_model(
        model,
        digest,
        task=mlmodel.task or "classification",
        release_tag=None,
        now=now,
        flavor=flavour.name,
        signature=mlmodel.signature,
        generation=-attempt,
    )
