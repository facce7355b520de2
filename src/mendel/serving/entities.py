"""What doors hand to the kernel, and what they get back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from mendel.serving.response_format import Body
from mendel.values import ModelName, VersionUuid


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """Rows as mappings from feature to value, as JSON gives them."""

    rows: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """Rows as sequences of values; ``columns`` names them, None leaves the signature's order."""

    rows: Sequence[Sequence[Any]]
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """
    One named v2 tensor.

    Attributes:
        datatype: As v2 writes it: ``FP64``, ``INT32``, ``BOOL``, ``BYTES``...
        shape: Its first axis is the row.
        values: A numpy array of that shape, or flat or nested lists.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensors:
    """Rows as tensors: one of shape (rows, features), or one per feature."""

    tensors: tuple[Tensor, ...]


Input = Records | Matrix | Tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceCall:
    """
    One request at any door.

    Attributes:
        model: None means the only or the default model.
        version: None leaves the choice to the routes' shares.
        door: ``rest``, ``grpc`` or ``zmq``, which has authorised the caller.
        proba: Probabilities are asked for, not welcome only.
        timeout: How long the caller waits, from now; None leaves it to the policy.
        key: What makes the choice of a route sticky: a user, a session.
        event_time: When the thing predicted happened, where the caller says so.
    """

    model: str | None
    input: Input
    door: str
    version: int | None = None
    proba: bool = False
    timeout: timedelta | None = None
    correlation_id: str = ""
    key: str | None = None
    event_time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageIdentity:
    """The image that a server runs in, as far as it was told: its release tag, its commit, its manifest's digest."""

    tag: str | None = None
    commit: str | None = None
    digest: str | None = None

    @property
    def document(self) -> dict[str, str]:
        """What is known."""
        known = {"tag": self.tag, "commit": self.commit, "digest": self.digest}
        return {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerIdentity:
    """What this server is, for the metadata of its answers; ``git_commit`` is of the code that it hosts."""

    project: str | None = None
    git_commit: str | None = None
    tool_version: str | None = None
    tool_commit: str | None = None
    image: ImageIdentity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerMetadata:
    """
    Which version answered, and which code: constant while a version is served in one generation.

    ``label`` is what answers call the version; None where none is registered and the code is no release.
    ``document`` is the ``metadata`` section of plain answers, made once.
    """

    model: ModelName
    version: int
    label: str | None
    uuid: VersionUuid
    generation: int
    deployed_at: datetime
    task: str
    classes: tuple[Any, ...] | None
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceAnswer:
    """
    The answer to one call; every row of it comes of one version.

    Attributes:
        predictions: One builtin value per row; NaN and infinities are None.
        probabilities: One list per row in the order of ``metadata.classes``, or None where the predictor has none.
        prediction_ids: One UUIDv7 per row; None when the rows are not in the spool.
        body: What the predictor itself returned, where its project lets that be the answer of the plain routes; so
            ``proba_body`` for probabilities.
        fallback: The breaker of the routed version was open, another version answered.
        took: From the kernel's door to here.
    """

    metadata: AnswerMetadata
    predictions: list[Any]
    probabilities: list[list[float | None]] | None
    prediction_ids: list[str] | None
    correlation_id: str
    at: datetime
    took: timedelta
    fallback: bool = False
    body: Body | None = None
    proba_body: Body | None = None

    @property
    def logged(self) -> bool:
        """Whether the rows are in the spool."""
        return self.prediction_ids is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing readiness looks at."""

    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """
    Whether requests are welcome.

    Ready means that every deployed model has a version serving that answered its golden input through the real path;
    how far that is from what is desired is convergence, and is reported apart.
    """

    state: str
    checks: tuple[Check, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether every check passed and the kernel is neither starting nor draining."""
        return self.state in {"ready", "degraded"} and all(check.passed for check in self.checks)


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionStatus:
    """
    One loaded version; ``breaker`` is closed, open or half_open; ``roles`` are route, shadow, fallback, keep.

    A project that is served as it stands has the version 0 and no uuid.
    """

    version: int
    uuid: VersionUuid | None
    roles: tuple[str, ...]
    queued: int
    running: int
    breaker: str
    loaded_at: datetime
    footprint_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """One model on this kernel."""

    model: ModelName
    generation_desired: int
    generation_serving: int
    version_serving: int | None
    versions: tuple[VersionStatus, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelStatus:
    """What the kernel is doing now."""

    readiness: Readiness
    revision: int
    active: int
    models: tuple[ModelStatus, ...] = ()
    logging: bool = False
    spool: Mapping[str, Any] = field(default_factory=dict)
