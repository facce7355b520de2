"""The stand-in for a version where a project's classifier is served without a registered one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import yaml

from mendel.values import (
    Deployment,
    DesiredModel,
    DesiredState,
    Digest,
    ModelName,
    Route,
    ServedVersion,
    VersionRef,
    VersionUuid,
)
from mendel.values.directory_trees import tree_digest

UNREGISTERED: Final = 0
"""The number of the stand-in; registered versions count from 1. Answers carry the release or null instead."""

_NO_UUID: Final = VersionUuid(f"m-{0:032x}")


@dataclass(frozen=True, slots=True)
class _UnregisteredRef(VersionRef):
    """A reference to the stand-in; its text is the model's name alone."""

    def __post_init__(self) -> None:
        """Number 0 is allowed here."""

    def __str__(self) -> str:
        return str.__str__(self.model)


def version_ref(model: ModelName, number: int) -> VersionRef:
    """A reference to version *number* of *model*; :data:`UNREGISTERED` gives the stand-in."""
    return VersionRef(model, number) if number != UNREGISTERED else _UnregisteredRef(model, UNREGISTERED)


def is_registered(served: ServedVersion) -> bool:
    """Whether a registry knows the version; only then can its predictions be logged."""
    return served.number != UNREGISTERED


def write_unregistered_artifact(directory: Path, classifier: str, *, task: str) -> Digest:
    """Write an MLmodel that says: build *classifier* from the project's code; gives the digest of the artefact."""
    directory.mkdir(parents=True)
    flavor = {"classifier": str(classifier), "task": task, "unregistered": True}
    (directory / "MLmodel").write_text(yaml.safe_dump({"flavors": {"mendel": flavor}}), encoding="utf-8")
    return tree_digest(directory)


def unregistered_model(
    classifier: ModelName, digest: Digest, *, task: str, release_tag: str | None, now: datetime
) -> DesiredModel:
    """The desired model of a server without a hub; *digest* is that of :func:`write_unregistered_artifact`."""
    served = ServedVersion(
        number=UNREGISTERED,
        uuid=_NO_UUID,
        artifact_digest=digest,
        flavor="mendel",
        signature=None,
        task=task,
        registered_at=now,
        release_tag=release_tag,
    )
    return single_version_model(classifier, served)


def single_version_model(model: ModelName, served: ServedVersion) -> DesiredModel:
    """*model* with all its traffic on one version."""
    deployment = Deployment(model=model, generation=1, routes=(Route(version=served.number, share=1.0),))
    return DesiredModel(deployment=deployment, versions=(served,))


def standalone_state(model: DesiredModel, key_hashes: dict[str, tuple[str, ...]]) -> DesiredState:
    """The desired state of a server without a hub: one model, and it never changes."""
    return DesiredState(revision=0, models=(model,), key_hashes=key_hashes)
