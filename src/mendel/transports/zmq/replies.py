"""The ``data`` of each type of ZMQ reply, and the reply around it."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from mendel.values import VersionUuid


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemInfo:
    """The machine of a worker."""

    platform: str
    python: str
    cpus: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCapability:
    """A model that is served, its registered versions, and what callers may ask of it."""

    name: str
    versions: tuple[int, ...]
    endpoints: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The models of a worker, and the types of messages that it answers."""

    models: tuple[ModelCapability, ...]
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilitiesReply:
    """``capabilities_response``."""

    capabilities: Capabilities


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """``worker_info``; the counts are of this worker since its door opened."""

    worker_id: str
    status: str
    active_tasks: int
    total_completed: int
    total_errors: int
    capabilities: Capabilities
    system_info: SystemInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatReply:
    """``heartbeat_ack``; ``status`` is the state of the kernel."""

    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReply:
    """``model_load_response``."""

    model_id: VersionUuid
    success: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class UnloadReply:
    """``model_unload_response``."""

    success: bool = True


class ErrorReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``error``; ``retry_after`` in seconds, left out where it is not known."""

    code: str
    message: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """
    One message to a caller.

    Attributes:
        message_id: The caller's ``request_id``; None where the message could not be read.
        timestamp: Seconds since 1970.
        data: A value of this module, the status of the kernel, or for ``inference_response`` the plain JSON.
    """

    type: str
    message_id: str | int | None
    timestamp: float
    data: object
