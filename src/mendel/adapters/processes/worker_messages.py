"""What the supervisor and its workers say to each other: one JSON object per line over a socket pair."""

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
    A door that a worker opens, by its name in the table of doors.

    Attributes:
        listeners: Descriptors of inherited listening sockets; empty where the door has a proxy.
        proxy_address: Where the proxy hands out messages; empty where the door has none.
    """

    name: str
    listeners: tuple[int, ...] = ()
    proxy_address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginWorker:
    """
    To a new worker, first: what it is.

    Attributes:
        slot: Its own block of counters and breakers; nobody else living has it.
        run: Directory of the shared memory.
        artifacts: Directory with one tree per digest, named by its hex.
        spool: Its own spool directory, and ``spool_id`` that spool's id; None logs nothing.
        doors: Those to open, in this order.
        hub: The address to ask for statistics.
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
    To the new process of a door's proxy, first: what it is.

    Attributes:
        door: Its name in the table of doors.
        listener: Descriptor of the inherited listening socket.
        worker_address: Where the doors of the workers connect.
    """

    door: str
    listener: int
    worker_address: str
    max_message_bytes: int
    style: LogStyle = field(default_factory=LogStyle)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desire:
    """
    To a worker: what to serve.

    ``base`` is for a worker that serves nothing yet: the last state that all workers converged on, when it differs. It
    is applied first, so that a worker born while ``state`` cannot be loaded serves what the others still serve.

    ``awaited`` are the deployed models that ``state`` lacks, because their artefacts are not here yet.
    """

    state: DesiredState
    base: DesiredState | None = None
    awaited: tuple[ModelName, ...] = ()

    @property
    def deployed(self) -> tuple[ModelName, ...]:
        """Every model that is deployed, whether it can be loaded already or not."""
        return (*(model.deployment.model for model in self.state.models), *self.awaited)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDoors:
    """To a worker: open the doors though you are not ready, since nobody is; health must be answered by somebody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """
    From a worker: how it is; on every change and once a second.

    Attributes:
        accepting: Its doors are open.
        ready: Every model it serves has passed its golden input here.
        detail: The checks that say no.
        revision: Of the desired state it applied last; -1 before the first.
        spool: The condition of its spool.
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
    """The message as one line."""
    return b'{"type":"%s","body":%s}\n' % (type(message).__name__.encode(), to_json(message))


def from_line(line: bytes) -> Message:
    """
    The message of a line.

    Raises:
        InvalidValue: It is none.
    """
    try:
        envelope = msgspec.json.decode(line)
        kind = _KINDS[envelope["type"]]
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise InvalidValue(f"Not a message between supervisor and worker: {line[:80]!r}.") from error
    return from_builtins(envelope["body"], kind)
