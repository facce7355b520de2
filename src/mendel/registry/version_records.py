"""A model version as the registry stores it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from mendel.errors import InvalidValue
from mendel.values import Digest, ModelName, ServedVersion, Signature, Stage, VersionRef, VersionUuid
from mendel.values.parity import ParityReport

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")


class VersionStatus(StrEnum):
    """Whether the registration of a version is complete or still in progress; a version in progress is not listed."""

    PENDING = "pending"
    READY = "ready"


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """
    The actor and time of a governance approval; ``by`` is ``policy <hash>`` if the policy passed it on from the parent.
    """

    by: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Governance:
    """The governance flags of a version, required for production and canary; None means not approved."""

    policy_compliant: Approval | None = None
    bias_check_passed: Approval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """
    The origin of a version, as stated by the caller that registered it.

    Attributes:
        git_dirty: Tracked files differed from the commit when the version was registered; None when unknown.
        git_origin: The URL of the remote ``origin``, without credentials.
    """

    training_dataset_size: int | None = None
    training_timestamp: datetime | None = None
    training_duration: timedelta | None = None
    git_commit_hash: str | None = None
    image_digest: str | None = None
    git_dirty: bool | None = None
    git_origin: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectations:
    """The expected performance in production; the latency trigger compares measurements with ``latency_p95_ms``."""

    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    throughput_rps: float | None = None

    def __post_init__(self) -> None:
        for name in ("latency_p50_ms", "latency_p95_ms", "throughput_rps"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InvalidValue(f"The expected value of {name} must be above 0, not {value}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectSource:
    """The project of a version: its repository (path or URL), release tag and classifier."""

    repository: str
    classifier: str
    tag: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionImage:
    """
    The container image that contains a version.

    Attributes:
        reference: The image reference as given, ``name:tag`` or ``name@digest``.
        digest: The manifest digest, which stays valid when the tag moves.
        release_tag: The release in the image's label; None for an image of a working tree.
    """

    reference: str
    digest: Digest
    release_tag: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Improvement:
    """
    An improvement of a baseline by a contributor.

    ``delta_metrics`` are the contributor's claims until a runner has recomputed them.
    """

    baseline: VersionRef
    contributor: str
    delta_metrics: dict[str, float]
    claimed: bool = True

    def __post_init__(self) -> None:
        if not _ADDRESS.fullmatch(self.contributor):
            raise InvalidValue(
                f"{self.contributor!r} is not a valid contributor address.",
                remedy="Write 0x and 40 hexadecimal digits.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedDifference:
    """
    The accepted difference between the version's answers and the fitted model's answers, with person and reason.

    ``difference`` is the first of the differences in words, ``id`` the digest of all of them.
    """

    difference: str
    id: str = ""
    by: str
    at: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedParity:
    """
    The parity of rows that came in a file after registration.

    The trainer's own object is not available then: the stored model answered the rows of the file directly, and these
    answers are compared with the served ones.

    Attributes:
        report: The result of the last probe, with the differences that the last probe of every other file found.
        file: The name of the last file, and ``digest`` its content.
        found: The ids of the differences by the digest of the file whose rows showed them.
    """

    report: ParityReport
    file: str
    digest: Digest
    by: str
    at: datetime
    found: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityWaiver:
    """The reason that a person gave to let a version leave development without parity; ``unmeasured`` is the cause."""

    reason: str
    unmeasured: str
    by: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRecord:
    """
    A registered version; immutable except stage, governance, image, and what is recorded about its parity.

    Attributes:
        artifact_digest: The digest of the served files, without ``data/``.
        data_digest: The digest of the version's data directory, or None.
        flavors: The flavours in the ``MLmodel`` file, sorted; ``flavor`` is used for loading.
        training_fingerprint: The fingerprint of the training rows, independent of the file format, or None.
        reference_digest: The digest of ``mendel/reference.json``; None without training data.
        image: The container image that contains the version, or None.
        parity: The result of the parity check at registration; None for a version registered without probe rows.
        accepted: The difference that a person accepted; None when no difference was accepted.
        served_parity: The differences that servers found when they loaded the version; None when none found any.
        clean_parity: The result of answering all probe rows in a new Python process; None before this check.
        probed: The result for rows of a file; None when no file was probed.
        without_parity: Why the version left development without parity; None when its parity was measured.
        libraries: The versions of the libraries that wrote the artefact, by distribution name; the version of Python
            has the key ``python``.
        metadata: Further facts that the caller gave at the registration.
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
    libraries: dict[str, str] = field(default_factory=dict)
    signature: Signature | None = None
    data_digest: Digest | None = None
    code_digest: Digest | None = None
    lock_digest: Digest | None = None
    carries_code: bool = False
    locked: bool = False
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
    parity: ParityReport | None = None
    accepted: AcceptedDifference | None = None
    served_parity: ParityReport | None = None
    clean_parity: ParityReport | None = None
    probed: ProbedParity | None = None
    without_parity: ParityWaiver | None = None

    @property
    def status(self) -> VersionStatus:
        """Always ready: an unfinished registration has no version record."""
        return VersionStatus.READY

    @property
    def public(self) -> VersionRecord:
        """The record without values of probe rows or their answers, for callers with the scope ``read``."""
        return replace(
            self,
            parity=self.parity and self.parity.public,
            served_parity=self.served_parity and self.served_parity.public,
            clean_parity=self.clean_parity and self.clean_parity.public,
            probed=self.probed and replace(self.probed, report=self.probed.report.public),
        )

    @property
    def model(self) -> ModelName:
        return self.ref.model

    @property
    def number(self) -> int:
        """The version number, from 1."""
        return self.ref.number

    @property
    def model_id(self) -> str:
        """The text ``name/version``."""
        return f"{self.model}/{self.number}"

    @property
    def derived_from(self) -> VersionRef | None:
        """The version that this one improves or was retrained from; None for a baseline."""
        return self.parent or (None if self.improvement is None else self.improvement.baseline)

    @property
    def served(self) -> ServedVersion:
        """The part of the record that servers need."""
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
            accepted_difference=None if self.accepted is None else self.accepted.id,
            carries_code=self.carries_code,
            git_commit=self.provenance.git_commit_hash or None,
            locked=self.locked,
        )
