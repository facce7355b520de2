"""Requests to the kernel, its answers, and its status, as values independent of the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

import msgspec
import orjson

from mendel.serving.response_format import Body
from mendel.values import Digest, ExternalServer, ModelName, ServedVersion, VersionUuid


class Records(msgspec.Struct, frozen=True, kw_only=True):
    """Rows as mappings from feature name to value, as decoded from JSON."""

    rows: Sequence[Mapping[str, Any]]


class Matrix(msgspec.Struct, frozen=True, kw_only=True):
    """Rows as sequences of values; ``columns`` names the values, None means the order of the signature."""

    rows: Sequence[Sequence[Any]]
    columns: tuple[str, ...] | None = None


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """
    One named tensor of the Open Inference Protocol v2.

    Attributes:
        datatype: A datatype of the protocol: ``FP64``, ``INT32``, ``BOOL``, ``BYTES``...
        shape: The lengths of the axes; the first axis counts the rows.
        values: A numpy array of that shape, or flat or nested lists.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Any


class Tensors(msgspec.Struct, frozen=True, kw_only=True):
    """Rows as tensors: one tensor of shape (rows, features), or one tensor per feature."""

    tensors: tuple[Tensor, ...]


Input = Records | Matrix | Tensors


class Caller(Protocol):
    """Who waits for the answer of an inference request."""

    @property
    def gone(self) -> bool:
        """True once nobody waits any more; a request that is still queued is then not predicted."""


class InferenceCall(msgspec.Struct, frozen=True, kw_only=True):
    """
    One inference request, independent of the protocol. The caller is already authorised.

    Attributes:
        model: The name of the model; None means the only model, or the default model of the project.
        version: The number of the version; None chooses a version by the traffic shares of the deployment.
        door: The protocol of the request: ``rest``, ``grpc`` or ``zmq``.
        proba: When True, the request fails if the model has no probabilities.
        timeout: The time the caller waits for the answer; None means ``request_timeout`` of the policy.
        key: Requests with the same key, such as a user id, go to the same version of a canary.
        event_time: The time of the event that is predicted; None when the caller does not state it.
        caller: A mark of the door, which gets it back with the answer; None when the call is never given up.
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
    caller: Caller | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageIdentity:
    """
    The image that a server runs in: its release tag, git commit and manifest digest, and the digest of its lock.

    None for unknown parts.
    """

    tag: str | None = None
    commit: str | None = None
    digest: str | None = None
    lock: str | None = None

    @property
    def document(self) -> dict[str, str]:
        """Tag, commit and digest by name, without those that are None."""
        known = {"tag": self.tag, "commit": self.commit, "digest": self.digest}
        return {name: value for name, value in known.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerIdentity:
    """
    The project, code and image of a server, for the metadata of its answers.

    ``git_commit`` is the commit of the hosted project, and ``release`` its release tag, None if unknown;
    ``tool_version`` and ``tool_commit`` are those of Mendel.
    """

    project: str | None = None
    git_commit: str | None = None
    release: str | None = None
    tool_version: str | None = None
    tool_commit: str | None = None
    image: ImageIdentity | None = None

    def hosts_code_of(self, served: ServedVersion) -> bool:
        """Whether a version without its own code can run here; True if a release is unknown."""
        return self.release is None or served.release_tag in {None, self.release}

    def commit_of(self, served: ServedVersion) -> str | None:
        """Give the commit of the code that *served* runs; None if unknown."""
        return served.git_commit if served.carries_code else self.git_commit


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerMetadata:
    """
    The model version and the code behind an answer; constant for one version in one generation of its deployment.

    ``label`` is the version as text in answers: its number, or the release version of a project that is served without
    a registered version; None when the project's commit is not a release. ``document`` is the ``metadata`` section of
    plain JSON answers, and ``json`` the same section in encoded form.
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
    json: orjson.Fragment = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        encoded = orjson.dumps(self.document, option=orjson.OPT_NON_STR_KEYS)
        object.__setattr__(self, "json", orjson.Fragment(encoded))


class InferenceAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """
    The answer to one inference request; one model version predicted all rows.

    Attributes:
        predictions: One value of a builtin type per row; NaN and infinities are None.
        probabilities: One list per row in the order of ``metadata.classes``; None when the model has no probabilities.
        prediction_ids: One UUIDv7 per row; None when the rows were not logged.
        at: The time of the answer.
        took: The time from the arrival of the request in the kernel to the answer.
        fallback: True when the circuit breaker of the chosen version was open and the fallback version answered.
        body: The return value of ``predict`` when ``api.response_format`` is ``custom`` or ``passthrough``, which the
            plain JSON routes send unchanged; otherwise None.
        proba_body: The return value of ``predict_proba``, likewise.
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
        """True when the rows were written to the prediction log."""
        return self.prediction_ids is not None


Answered = tuple[InferenceCall, InferenceAnswer | Exception]
"""A request with its answer, or with the error that the caller gets: a MendelError, or a defect of Mendel."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One condition for readiness, for example that a model is loaded; ``detail`` says why the check failed."""

    name: str
    passed: bool
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """
    Whether the server is ready for requests, with the checks that failed.

    A server becomes ready when each deployed model has been loaded or has failed to load. After that, a model whose
    check fails makes the server degraded, but not unready. The convergence on the desired state is reported separately.
    """

    state: str
    checks: tuple[Check, ...] = ()

    @property
    def ready(self) -> bool:
        """Whether the server has started and is not stopping."""
        return self.state in {"ready", "degraded"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendPlace:
    """
    Where a predictor runs.

    Attributes:
        backend: ``thread`` for a thread of the worker process, ``process`` for a process of its own, ``remote`` for
            other servers.
        pid: The id of the process; None while no process runs.
        memory_bytes: The resident memory of a process of its own; None where it is not measured.
        restarts: How often the process was started again after it had ended.
        external_api: The servers of a remote model.
    """

    backend: Literal["thread", "process", "remote"]
    pid: int | None
    memory_bytes: int | None
    restarts: int = 0
    external_api: tuple[ExternalServer, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionStatus:
    """
    The status of one loaded model version.

    ``breaker`` is ``closed``, ``open`` or ``half_open``. ``roles`` are those of ``route``, ``shadow``, ``fallback`` and
    ``keep`` that the version has in the deployment. A classifier that is served without a registered version has
    ``version`` 0 and ``uuid`` None.
    """

    version: int
    uuid: VersionUuid | None
    roles: tuple[str, ...]
    queued: int
    running: int
    breaker: str
    loaded_at: datetime
    footprint_bytes: int
    memory_bytes: int | None
    place: BackendPlace


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """
    One deployed model on this kernel.

    Attributes:
        ready: Every version that receives traffic is loaded and runs, and the server has started.
        unloaded: The model was unloaded at the request of a client, or to stay within the memory budget.
        generation_desired: None while this process waits for the model's artefact.
        failed_version: The version that could not be loaded.
        error: Why a version could not be loaded, or why the model does not serve.
    """

    model: ModelName
    ready: bool
    unloaded: bool
    generation_desired: int | None
    generation_serving: int
    version_serving: int | None
    versions: tuple[VersionStatus, ...] = ()
    failed_version: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelStatus:
    """
    The status of a kernel.

    ``revision`` is that of the desired state; ``active`` counts the requests in flight; ``logging`` is True when
    predictions are written to the log; ``spool`` describes the prediction log, empty without a spool.
    """

    readiness: Readiness
    revision: int
    active: int
    models: tuple[ModelStatus, ...] = ()
    logging: bool = False
    spool: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadKey:
    """The version and artefact that a load brings into the process."""

    model: ModelName
    version: int
    digest: Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedLoad:
    """A load that this process must not try; ``at_fault`` is True if the version has shown that it cannot be loaded."""

    load: LoadKey
    reason: str
    at_fault: bool = False
