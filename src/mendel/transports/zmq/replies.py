"""The ZMQ reply and the values of its field ``data``, one class per type of reply."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemInfo:
    """The operating system, Python version and number of cores of a worker's machine."""

    platform: str
    python: str
    cpus: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCapability:
    """A served model with its registered versions and the endpoints that callers may use."""

    name: str
    versions: tuple[int, ...]
    endpoints: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The models that a worker serves and the types of messages that it answers."""

    models: tuple[ModelCapability, ...]
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CapabilitiesReply:
    """The data of a reply of type ``capabilities_response``."""

    capabilities: Capabilities


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerInfo:
    """The data of a reply of type ``worker_info``; the counts begin when the worker's ZMQ server starts."""

    worker_id: str
    status: str
    active_tasks: int
    total_completed: int
    total_errors: int
    capabilities: Capabilities
    system_info: SystemInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatReply:
    """The data of a reply of type ``heartbeat_ack``; ``status`` is the kernel's state, for example ``ready``."""

    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReply:
    """
    The data of a reply of type ``model_load_response``.

    ``memory_bytes`` is the growth of resident memory during the load; 0 if the growth was not measured.
    """

    model_id: str | None
    memory_bytes: int
    success: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class UnloadReply:
    """
    The data of a reply of type ``model_unload_response``.

    ``freed_bytes`` is the decrease of resident memory; None if the decrease was not measured.
    """

    freed_bytes: int | None
    success: bool = True


class ErrorReply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The data of a reply of type ``error``; ``retry_after`` is in seconds, None when the error states no time."""

    code: str
    message: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """
    A reply to a caller.

    Attributes:
        message_id: The ``request_id`` of the caller's message; None when the message could not be decoded.
        timestamp: The time of the reply in seconds since 1970.
        data: A value of a class in this module; the kernel's status for ``status_response``; the answer in plain JSON
            for ``inference_response``.
    """

    type: str
    message_id: str | int | None
    timestamp: float
    data: object
