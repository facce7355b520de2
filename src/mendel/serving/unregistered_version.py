"""The placeholder version 0 of a project's classifier that is served without a registered model version."""

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
    Signature,
    VersionRef,
    VersionUuid,
)
from mendel.values.directory_trees import tree_digest

UNREGISTERED: Final = 0
"""The number of the placeholder version; registered versions count from 1. Answers contain the release or null."""

_NO_UUID: Final = VersionUuid(f"m-{0:032x}")


@dataclass(frozen=True, slots=True)
class _UnregisteredRef(VersionRef):
    """A reference to the placeholder version; its text is the name of the model without a number."""

    def __post_init__(self) -> None:
        """Allow the number 0, which the base class refuses."""

    def __str__(self) -> str:
        return str.__str__(self.model)


def version_ref(model: ModelName, number: int) -> VersionRef:
    """Make a reference to version *number* of *model*; *number* may be :data:`UNREGISTERED`."""
    return VersionRef(model, number) if number != UNREGISTERED else _UnregisteredRef(model, UNREGISTERED)


def is_registered(served: ServedVersion) -> bool:
    """Tell whether a version is registered; only predictions of registered versions can be logged."""
    return served.number != UNREGISTERED


def write_unregistered_artifact(directory: Path, classifier: str, *, task: str) -> Digest:
    """
    Write an artefact that only names *classifier*, so that the server builds the predictor from the project's code.

    Returns:
        The digest of the artefact.
    """
    directory.mkdir(parents=True)
    flavor = {"classifier": str(classifier), "task": task, "unregistered": True}
    (directory / "MLmodel").write_text(yaml.safe_dump({"flavors": {"mendel": flavor}}), encoding="utf-8")
    return tree_digest(directory)


def unregistered_model(
    model: ModelName,
    digest: Digest,
    *,
    task: str,
    release_tag: str | None,
    now: datetime,
    flavor: str = "mendel",
    signature: Signature | None = None,
    generation: int = 1,
) -> DesiredModel:
    """Make the desired state of *model* with all traffic on an artefact that is not registered."""
    served = ServedVersion(
        number=UNREGISTERED,
        uuid=_NO_UUID,
        artifact_digest=digest,
        flavor=flavor,
        signature=signature,
        task=task,
        registered_at=now,
        release_tag=release_tag,
    )
    return single_version_model(model, served, generation=generation)


def single_version_model(model: ModelName, served: ServedVersion, *, generation: int = 1) -> DesiredModel:
    """Make the desired state of *model* with all traffic on one version."""
    route = Route(version=served.number, share=1.0)
    deployment = Deployment(model=model, generation=generation, routes=(route,))
    return DesiredModel(deployment=deployment, versions=(served,))


def standalone_state(model: DesiredModel, key_hashes: dict[str, tuple[str, ...]]) -> DesiredState:
    """Give the desired state of a server without a hub: one model, with the API keys *key_hashes* and their scopes."""
    return DesiredState(revision=0, models=(model,), key_hashes=key_hashes)
