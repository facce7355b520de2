"""Messages between the supervisor and its workers: one JSON object per line over a socket pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, get_args

import msgspec

from mendel.adapters.processes.process_logs import LogStyle
from mendel.errors import InvalidValue
from mendel.predictions import SpoolPolicy
from mendel.serving import LoadKey, RefusedLoad, ServerIdentity, ServingPolicy
from mendel.values import DesiredState, Digest, ExternalServer, ModelConvergence, ModelName, from_builtins, to_json

MAX_LINE_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDoor:
    """
    A door that a worker opens.

    Attributes:
        listeners: File descriptors of inherited listening sockets; empty if the door has a proxy.
        proxy_address: The proxy's address for workers; empty if the door has no proxy.
    """

    name: str
    listeners: tuple[int, ...] = ()
    proxy_address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginWorker:
    """
    The first message to a new worker: its configuration.

    Attributes:
        slot: The number of the worker's blocks of counters and breakers; no other running worker has it.
        run: The directory of the shared memory files.
        artifacts: The directory with one artefact directory per digest, named by the digest's hex.
        spool: The worker's spool directory, whose id is ``spool_id``; None logs no predictions.
        doors: The doors to open, in this order.
        hub: The hub's URL, for statistics.
    """

    slot: int
    run: str
    artifacts: str
    spool: str | None
    spool_id: str
    doors: tuple[WorkerDoor, ...]
    hub: str | None
    policy: ServingPolicy
    spool_policy: SpoolPolicy
    project: str | None
    classifier: str | None
    identity: ServerIdentity
    style: LogStyle = field(default_factory=LogStyle)


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginProxy:
    """
    The first message to a new proxy process: its configuration.

    Attributes:
        door: The door's name in the table of doors.
        listener: The file descriptor of the inherited listening socket.
        worker_address: The address to which the workers' doors connect.
        key: The setting ``serving.zmq_key``.
        clients: The setting ``serving.zmq_clients``.
    """

    door: str
    listener: int
    worker_address: str
    max_message_bytes: int
    max_connections: int
    key: str | None = None
    clients: str | None = None
    style: LogStyle = field(default_factory=LogStyle)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desire:
    """
    Tells a worker which desired state to serve.

    ``base`` is for a worker that serves nothing yet: the last state that all workers served, if different. The worker
    applies ``base`` first, so that it serves the same as the other workers if ``state`` cannot be loaded.

    Attributes:
        awaited: The deployed models that ``state`` lacks because their artefacts are missing, each with the error of
            the last attempt to fetch them; empty before the first error.
        unloaded: The deployed models that a client unloaded.
        directories: The artefact directories of the models that were loaded by path, by digest.
        trials: Loads that ended a worker before: this worker runs each of them alone, and before it opens its doors.
        refused: Loads that this worker must not try.
        resumed: Whether the server has served before and no other worker answers: this worker then answers for each
            model as soon as the model is loaded.
    """

    state: DesiredState
    base: DesiredState | None = None
    awaited: dict[ModelName, str] = field(default_factory=dict)
    unloaded: tuple[ModelName, ...] = ()
    directories: dict[Digest, str] = field(default_factory=dict)
    trials: tuple[LoadKey, ...] = ()
    refused: tuple[RefusedLoad, ...] = ()
    resumed: bool = False

    @property
    def deployed(self) -> dict[ModelName, str | None]:
        """Give every deployed model, with the error if its artefacts could not be fetched, else None."""
        errors = {model: error or None for model, error in self.awaited.items()}
        return {**{model.deployment.model: None for model in self.state.models}, **errors}


@dataclass(frozen=True, slots=True, kw_only=True)
class Loading:
    """Tells the supervisor which loads run in a worker; sent before a load begins and after a load has ended."""

    loads: tuple[LoadKey, ...]


class RepositoryAction(StrEnum):
    """The request of a client: load or unload a model."""

    LOAD = "load"
    UNLOAD = "unload"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryRequest:
    """
    Asks the supervisor to load or unload *model* in every worker.

    ``number`` is unique per worker; ``path`` is the directory of the model, or empty.
    """

    number: int
    action: RepositoryAction
    model: ModelName
    path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryCommand:
    """Tells a worker to load or unload *model* and to answer with ``number`` when that is done."""

    number: int
    action: RepositoryAction
    model: ModelName


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryResult:
    """
    Answers a :class:`RepositoryRequest` or a :class:`RepositoryCommand`.

    Attributes:
        error: Why the request or command failed; ``kind`` is the name of the error's class.
        freed_bytes: The decrease of resident memory; None if the decrease was not measured.
    """

    number: int
    error: str | None = None
    kind: str = ""
    remedy: str = ""
    freed_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDoors:
    """
    Tells a worker to open its doors: because the worker is ready, or because no worker has open doors and callers need
    answers.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """
    A worker's status, sent after every change and once a second.

    Attributes:
        accepting: Whether the worker's doors are open.
        ready: Whether each deployed model has been loaded or has failed to load in this worker.
        detail: The failed readiness checks; empty if none failed.
        revision: The revision of the desired state that the worker applied last; -1 before the first.
        spool: The state of the worker's spool.
        stuck: Whether a call of a model hangs in a thread of the worker, which only the worker's end stops.
        external_api: The servers of remote models, without their numbers of calls.
    """

    accepting: bool
    ready: bool
    detail: str = ""
    revision: int = -1
    convergence: tuple[ModelConvergence, ...] = ()
    spool: dict[str, Any] = field(default_factory=dict)
    stuck: bool = False
    external_api: tuple[ExternalServer, ...] = ()


Message = (
    BeginWorker
    | BeginProxy
    | Desire
    | Loading
    | OpenDoors
    | RepositoryCommand
    | RepositoryRequest
    | RepositoryResult
    | Status
)
_KINDS: Final[Mapping[str, type[Message]]] = {kind.__name__: kind for kind in get_args(Message)}


def to_line(message: Message) -> bytes:
    """Encode the message as one line of JSON."""
    return b'{"type":"%s","body":%s}\n' % (type(message).__name__.encode(), to_json(message))


def from_line(line: bytes) -> Message:
    """
    Decode a line.

    Raises:
        InvalidValue: The line is not a valid message.
    """
    try:
        envelope = msgspec.json.decode(line)
        kind = _KINDS[envelope["type"]]
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise InvalidValue(f"The supervisor or a worker sent an invalid message: {line[:80]!r}.") from error
    return from_builtins(envelope["body"], kind)
