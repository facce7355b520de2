"""Write the files for a server without a hub, which serves a project's working tree or one registered version."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from mendel.errors import InvalidSettings
from mendel.projects import Classifier
from mendel.registry import key_digest
from mendel.serving import (
    ARTIFACT,
    read_version_directory,
    single_version_model,
    standalone_state,
    unregistered_model,
    write_unregistered_artifact,
)
from mendel.values import DesiredModel, Scope, to_json
from mendel.values.atomic_files import write_atomically
from mendel.values.directory_trees import tree_digest

_log = structlog.get_logger("mendel.standalone")
_OPERATOR: Final = (Scope.READ, Scope.LABEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class StandaloneFiles:
    """
    The files that the processes of a server without a hub read.

    Attributes:
        desired_file: The file with the desired state, which never changes.
        artifacts: The directory with the artefact, or a link to it, named by its digest.
        logged: True when predictions are logged, which needs a registered version.
    """

    desired_file: Path
    artifacts: Path
    logged: bool


def write_project_files(
    directory: Path, classifier: Classifier, release: str | None, keys: Mapping[str, tuple[str, ...]], now: datetime
) -> StandaloneFiles:
    """
    Write the files to serve *classifier* from its project, without a registered version.

    Predictions are not logged, because a hub stores each logged row under the number and uuid of a registered version;
    without a version, the local log would only grow. Answers contain ``logged: false``.
    """
    task = str(classifier.monitoring.get("task", "classification"))
    draft = directory / f".draft-{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    digest = write_unregistered_artifact(draft, classifier.name, task=task)
    place = directory / "artifacts" / digest.hex
    place.parent.mkdir(exist_ok=True)
    if place.is_dir() and tree_digest(place) == digest:
        shutil.rmtree(draft)
    else:
        shutil.rmtree(place, ignore_errors=True)
        draft.rename(place)
    model = unregistered_model(classifier.name, digest, task=task, release_tag=release, now=now)
    return _written(directory, model, keys, logged=False)


def write_version_files(directory: Path, carried: Path, keys: Mapping[str, tuple[str, ...]]) -> StandaloneFiles:
    """
    Write the files to serve the registered version in the directory *carried*; the artefact is linked, not copied.

    Raises:
        ArtifactNotFound, InvalidValue: *carried* was not written by ``write_version_directory``.
    """
    version = read_version_directory(carried)
    place = directory / "artifacts" / version.version.artifact_digest.hex
    place.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError):
        place.unlink()
    place.symlink_to((carried / ARTIFACT).resolve())
    return _written(directory, single_version_model(version.model, version.version), keys, logged=True)


def standalone_keys(server: Path, given: str | None) -> dict[str, tuple[str, ...]]:
    """
    Give the API keys of a server without a hub: the SHA-256 of each key with its scopes.

    Args:
        server: The directory of the server. If *given* is None, a new key with the scopes ``read`` and ``label`` is
            written to its file ``key``, readable by the owner only; prediction routes then need no key.
        given: The key from ``MENDEL_KEY``, which gets all scopes; None or empty without the variable.
    """
    if given:
        scopes = tuple(scope.value for scope in Scope)
        return {key_digest(given): scopes}
    path = server / "key"
    if not path.exists():
        server.mkdir(parents=True, exist_ok=True)
        write_atomically(path, f"mk_{secrets.token_hex(32)}".encode(), mode=0o600)
    _log.warning(
        "predict_is_open",
        reason="MENDEL_KEY is not set, so everybody who can reach the ports may predict",
        remedy="Set MENDEL_KEY to require that key.",
        other_routes_need=f"the key in {path}",
    )
    return {key_digest(path.read_text(encoding="ascii").strip()): tuple(scope.value for scope in _OPERATOR)}


def make_directory(directory: Path) -> None:
    """
    Create the directory of a server, if absent.

    Raises:
        InvalidSettings: The directory cannot be created, or this user may not write to it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSettings(
            f"The directory {directory} cannot be created: {error.strerror}.",
            remedy="Choose a --directory that this user may write to.",
        ) from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise InvalidSettings(
            f"This user may not write to the directory {directory}.",
            remedy="Choose a --directory that this user may write to.",
        )


def _written(
    directory: Path, model: DesiredModel, keys: Mapping[str, tuple[str, ...]], *, logged: bool
) -> StandaloneFiles:
    file = directory / "desired.json"
    write_atomically(file, to_json(standalone_state(model, dict(keys))))
    return StandaloneFiles(desired_file=file, artifacts=directory / "artifacts", logged=logged)
