"""Messages between the supervisor and its workers: one JSON object per line over a socket pair."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from mendel.adapters.processes.process_logs import LogStyle
from mendel.errors import InvalidValue
from mendel.predictions import SpoolPolicy
from mendel.serving import ServerIdentity, ServingPolicy
from mendel.values import DesiredState, ModelConvergence, ModelName, from_builtins, to_json

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
    """

    door: str
    listener: int
    worker_address: str
    max_message_bytes: int
    style: LogStyle = field(default_factory=LogStyle)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desire:
    """
    Tells a worker which desired state to serve.

    ``base`` is for a worker that serves nothing yet: the last state that all workers served, if different. The worker
    applies ``base`` first, so that it serves the same as the other workers if ``state`` cannot be loaded. ``awaited``
    are deployed models that ``state`` lacks because their artefacts are missing.
    """

    state: DesiredState
    base: DesiredState | None = None
    awaited: tuple[ModelName, ...] = ()

    @property
    def deployed(self) -> tuple[ModelName, ...]:
        """Every deployed model, including models whose artefacts are missing."""
        return (*(model.deployment.model for model in self.state.models), *self.awaited)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDoors:
    """
    Tells a worker to open its doors although it is not ready, because no worker is ready and health checks need
    answers.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """
    A worker's status, sent after every change and once a second.

    Attributes:
        accepting: Whether the worker's doors are open.
        ready: Whether every served model answered its golden input correctly in this worker.
        detail: The failed readiness checks; empty if none failed.
        revision: The revision of the desired state that the worker applied last; -1 before the first.
        spool: The state of the worker's spool.
    """

    accepting: bool
    ready: bool
    detail: str = ""
    revision: int = -1
    convergence: tuple[ModelConvergence, ...] = ()
    spool: dict[str, Any] = field(default_factory=dict)


Message = BeginWorker | BeginProxy | Desire | OpenDoors | Status
_KINDS: Final[Mapping[str, type[Message]]] = {
    kind.__name__: kind for kind in (BeginWorker, BeginProxy, Desire, OpenDoors, Status)
}


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
