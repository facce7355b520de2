"""A project served as it stands, without a registered version: what stands for the version that there is not."""

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

ITSELF: Final = 0
"""The number of no version: versions count from 1. Answers never say it; they say the release, or null."""

_NOBODY: Final = VersionUuid(f"m-{0:032x}")


@dataclass(frozen=True, slots=True)
class _Itself(VersionRef):
    """A project's classifier, wherever a version is asked for; its text is the name alone."""

    def __post_init__(self) -> None:
        """There is no number to check."""

    def __str__(self) -> str:
        return str.__str__(self.model)


def version_ref(model: ModelName, number: int) -> VersionRef:
    """The version *number* of *model*, or the project itself for :data:`ITSELF`."""
    return VersionRef(model, number) if number != ITSELF else _Itself(model, ITSELF)


def is_registered(served: ServedVersion) -> bool:
    """Whether a registry knows the version; what it answers can be logged only then, since nothing else names it."""
    return served.number != ITSELF


def write_itself(directory: Path, classifier: str, *, task: str) -> Digest:
    """Write the artefact that holds nothing and says: build *classifier* as its project does; gives its digest."""
    directory.mkdir(parents=True)
    flavor = {"classifier": str(classifier), "task": task, "itself": True}
    (directory / "MLmodel").write_text(yaml.safe_dump({"flavors": {"mendel": flavor}}), encoding="utf-8")
    return tree_digest(directory)


def desire_itself(
    classifier: ModelName, digest: Digest, *, task: str, release_tag: str | None, now: datetime
) -> DesiredModel:
    """What a server without a hub is told for *classifier*; *digest* is that of :func:`write_itself`."""
    served = ServedVersion(
        number=ITSELF,
        uuid=_NOBODY,
        artifact_digest=digest,
        flavor="mendel",
        signature=None,
        task=task,
        registered_at=now,
        release_tag=release_tag,
    )
    return desire_only(classifier, served)


def desire_only(model: ModelName, served: ServedVersion) -> DesiredModel:
    """*model* with all its traffic on one version."""
    deployment = Deployment(model=model, generation=1, routes=(Route(version=served.number, share=1.0),))
    return DesiredModel(deployment=deployment, versions=(served,))


def desired_alone(model: DesiredModel, key_hashes: dict[str, tuple[str, ...]]) -> DesiredState:
    """The state of a server that nobody will ever tell anything else."""
    return DesiredState(revision=0, models=(model,), key_hashes=key_hashes)
