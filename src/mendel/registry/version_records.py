"""What a model version is and carries."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from mendel.errors import InvalidValue
from mendel.values import Digest, ModelName, ServedVersion, Signature, Stage, VersionRef, VersionUuid

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")


class VersionStatus(StrEnum):
    """Whether a version is registered whole, or its registration is still under way (and it is listed nowhere)."""

    PENDING = "pending"
    READY = "ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """Who set a governance flag, and when; ``by`` reads ``policy <hash>`` where a policy passed it on."""

    by: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Governance:
    """The flags that stand between a version and users; None: not given."""

    policy_compliant: Approval | None = None
    bias_check_passed: Approval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Where a version comes of, as far as its maker said."""

    training_dataset_size: int | None = None
    training_timestamp: datetime | None = None
    training_duration: timedelta | None = None
    git_commit_hash: str | None = None
    image_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """What the maker expects in production; the latency trigger measures against ``latency_p95_ms``."""

    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    throughput_rps: float | None = None

    def __post_init__(self) -> None:
        for name in ("latency_p50_ms", "latency_p95_ms", "throughput_rps"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidValue(f"The expected {name} must be above 0, not {value}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectSource:
    """The classifier a version was trained for: its repository (path or URL), release tag and name."""

    repository: str
    classifier: str
    tag: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionImage:
    """
    The container image that a version is delivered in.

    Attributes:
        reference: As it was given, ``name:tag`` or ``name@digest``.
        digest: Of the manifest: what was meant, wherever the tag moves.
        release_tag: The release that the image's label names; None for an image of a working tree.
    """

    reference: str
    digest: Digest
    release_tag: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Improvement:
    """
    A contribution over a baseline.

    ``delta_metrics`` are claimed by the contributor until a runner has computed them again.
    """

    baseline: VersionRef
    contributor: str
    delta_metrics: dict[str, float]
    claimed: bool = True

    def __post_init__(self) -> None:
        if not _ADDRESS.fullmatch(self.contributor):
            raise InvalidValue(
                f"{self.contributor!r} is not the address of a contributor.", remedy="Write 0x and 40 hex digits."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRecord:
    """
    One registered version: immutable but for stage, governance and image.

    Attributes:
        artifact_digest: Of the served tree, ``data/`` left out.
        data_digest: Of the data directory kept beside it, where there is one.
        flavors: As its ``MLmodel`` names them, sorted; ``flavor`` is the one that loads it.
        training_fingerprint: Of the training rows, whatever file they came in.
        reference_digest: Of ``mendel/reference.json``, where training data were given.
        image: The container image it is delivered in, where one was recorded.
        metadata: The maker's own keys.
    """

    ref: VersionRef
    uuid: VersionUuid
    run_id: str | None
    stage: Stage
    flavor: str
    task: str
    artifact_digest: Digest
    registered_at: datetime
    idempotency_key: str
    registered_by: str = "registry"
    flavors: tuple[str, ...] = ()
    signature: Signature | None = None
    data_digest: Digest | None = None
    code_digest: Digest | None = None
    lock_digest: Digest | None = None
    release_tag: str | None = None
    image: VersionImage | None = None
    project: ProjectSource | None = None
    parent: VersionRef | None = None
    improvement: Improvement | None = None
    training_fingerprint: str | None = None
    reference_digest: Digest | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    description: str = ""
    owner: str = ""
    team: str = ""
    framework: str = ""
    provenance: Provenance = field(default_factory=Provenance)
    expectations: Expectations = field(default_factory=Expectations)
    governance: Governance = field(default_factory=Governance)

    @property
    def status(self) -> VersionStatus:
        """Ready: what is only pending has no number yet, and is no version."""
        return VersionStatus.READY

    @property
    def model(self) -> ModelName:
        """The model that owns it."""
        return self.ref.model

    @property
    def number(self) -> int:
        """Its number, from 1."""
        return self.ref.number

    @property
    def model_id(self) -> str:
        """``name/version``."""
        return f"{self.model}/{self.number}"

    @property
    def served(self) -> ServedVersion:
        """What servers need of it."""
        return ServedVersion(
            number=self.number,
            uuid=self.uuid,
            artifact_digest=self.artifact_digest,
            flavor=self.flavor,
            signature=self.signature,
            task=self.task,
            registered_at=self.registered_at,
            release_tag=self.release_tag,
            code_digest=self.code_digest,
            lock_digest=self.lock_digest,
            training_fingerprint=self.training_fingerprint,
            image_digest=None if self.image is None else self.image.digest,
        )
