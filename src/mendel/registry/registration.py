"""The request to register a version, and its result."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mendel.errors import Conflict, InvalidValue
from mendel.registry.metadata_values import plain_metadata
from mendel.registry.version_records import (
    Expectations,
    Improvement,
    ProjectSource,
    Provenance,
    VersionImage,
    VersionRecord,
)
from mendel.values import Digest, ModelName, Signature, Stage, VersionRef, VersionUuid, to_builtins

_METADATA_VERSION = "1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """
    A request to register a new version.

    Attributes:
        flavor: The flavour for loading the version; the ``MLmodel`` file must contain it.
        signature: The signature; None uses the signature in the ``MLmodel`` file, if any.
        stage: Always ``development``: a version leaves this stage only after its parity check.
        idempotency_key: Calls with the same key and content make one version. With None, every call makes a new
            version.
        release_tag: The release of the version; None uses the image's release, if any.
        image: The container image that contains the version.
    """

    model: ModelName
    flavor: str
    task: str
    signature: Signature | None = None
    stage: Stage = Stage.DEVELOPMENT
    idempotency_key: str | None = None
    code_digest: Digest | None = None
    lock_digest: Digest | None = None
    release_tag: str | None = None
    image: VersionImage | None = None
    project: ProjectSource | None = None
    parent: VersionRef | None = None
    improvement: Improvement | None = None
    training_fingerprint: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    description: str = ""
    owner: str = ""
    team: str = ""
    framework: str = ""
    provenance: Provenance = field(default_factory=Provenance)
    expectations: Expectations = field(default_factory=Expectations)

    def __post_init__(self) -> None:
        if self.stage != Stage.DEVELOPMENT:
            raise InvalidValue(
                f"A version cannot be registered in the stage {self.stage}.",
                remedy="Register the version in development; after its parity check, move it with 'mendel stage'.",
            )
        if self.idempotency_key is not None and not 0 < len(self.idempotency_key) <= 256:  # noqa: PLR2004 - its bound
            raise InvalidValue("An idempotency key must have 1 to 256 characters.")
        require_finite(self.metrics, "metric")
        require_same_release(self.image, self.release_tag)


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingRegistration:
    """
    A registration in progress: its artefact may be published, but the version is not listed.

    ``swept`` is set before the cleanup deletes the artefact; the registration can then no longer be completed.
    """

    model: ModelName
    idempotency_key: str
    artifact_digest: Digest
    data_digest: Digest | None
    requested_at: datetime
    swept: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """
    The result of a registration.

    Attributes:
        model_id: ``name/version``; :attr:`ref` is the form that commands print, and both are read everywhere.
        signature: The signature as MLflow prints it, or None.
        artifact_path: The artefact's path in the artefact store.
        mlflow_version: The version of MLflow that stores the artefact; None for another store.
        model_type, is_baseline: Set only for a baseline.
        baseline_id, contributor, delta_metrics: Set only for an improved model.
    """

    model_id: str
    model_name: str
    version: int
    model_uuid: VersionUuid
    model_uri: str
    run_id: str | None
    signature: str | None
    metadata: dict[str, Any]
    registration_timestamp: datetime
    flavors: tuple[str, ...]
    artifact_path: str
    mlflow_version: str | None
    model_type: str | None = None
    is_baseline: bool | None = None
    baseline_id: str | None = None
    contributor: str | None = None
    delta_metrics: dict[str, float] | None = None

    @property
    def name(self) -> str:
        """Another name of ``model_name``."""
        return self.model_name

    @property
    def ref(self) -> VersionRef:
        """The version, whose text ``name@version`` every command takes."""
        return VersionRef(ModelName(self.model_name), self.version)

    @classmethod
    def of(cls, record: VersionRecord, *, artifact_path: str, mlflow_version: str | None) -> Registered:
        """Make the result from the stored *record*."""
        improvement = record.improvement
        baseline = record.metadata.get("is_baseline") is True
        return cls(
            model_id=record.model_id,
            model_name=str(record.model),
            version=record.number,
            model_uuid=record.uuid,
            model_uri=f"models:/{record.uuid}",
            run_id=record.run_id,
            signature=None if record.signature is None else str(record.signature),
            metadata=record.metadata,
            registration_timestamp=record.registered_at,
            flavors=record.flavors,
            artifact_path=artifact_path,
            mlflow_version=mlflow_version,
            model_type=record.metadata.get("model_type") if baseline else None,
            is_baseline=True if baseline else None,
            baseline_id=None if improvement is None else f"{improvement.baseline.model}/{improvement.baseline.number}",
            contributor=None if improvement is None else improvement.contributor,
            delta_metrics=None if improvement is None else improvement.delta_metrics,
        )

    def as_dict(self) -> dict[str, Any]:
        """Convert to the JSON form; fields of baselines and improved models appear only for such models."""
        tree: dict[str, Any] = to_builtins(self)
        optional = ("model_type", "is_baseline", "baseline_id", "contributor", "delta_metrics")
        return {key: value for key, value in tree.items() if key not in optional or value is not None}


def require_finite(values: Mapping[str, float], what: str) -> None:
    """
    Check that all *values* are finite numbers.

    Args:
        what: The kind of the values for the error message, for example ``metric``.

    Raises:
        InvalidValue: A value is not finite.
    """
    for name, value in values.items():
        if not math.isfinite(value):
            raise InvalidValue(
                f"The {what} {name!r} is {value}, not a finite number.",
                remedy="Leave out values that were not measured.",
            )


def require_same_release(image: VersionImage | None, release_tag: str | None) -> None:
    """
    Check that *image* has the release *release_tag*; unknown values are not compared.

    Raises:
        Conflict: Image and version have different releases.
    """
    known = None if image is None else image.release_tag
    if image is not None and None not in {known, release_tag} and known != release_tag:
        raise Conflict(
            f"The image {image.reference} is of release {known}, but the model version is of release {release_tag}.",
            remedy=f"Give an image of release {release_tag}.",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationMetadata:
    """The metadata that every registered model carries."""

    model_type: str
    is_baseline: bool
    registration_time: datetime
    hokusai_version: str = _METADATA_VERSION

    def beside(self, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """
        Combine the caller's metadata with the fields of this class, which take precedence.

        Raises:
            InvalidInput: JSON cannot represent a value that the caller gave.
        """
        return {**plain_metadata(given or {}), **to_builtins(self)}


def default_name(model_type: str, *, baseline: bool) -> ModelName:
    """
    Give the default name of a model that is registered without a name.

    >>> default_name("lead_scoring", baseline=True), default_name("ranking", baseline=False)
    ('hokusai_lead_scoring_baseline', 'hokusai_ranking_improved')
    """
    return ModelName(f"hokusai_{model_type}_{'baseline' if baseline else 'improved'}")
