"""What each type of message asks of the kernel."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from mendel.errors import InvalidRequest, VersionNotFound
from mendel.serving import InferenceCall, Kernel, parse_plain, plain_answer, read_json
from mendel.transports.zmq.messages import Incoming
from mendel.values import Scope, to_builtins


@dataclass(slots=True, kw_only=True)
class Tally:
    """What one worker's door has done since it opened."""

    active: int = 0
    completed: int = 0
    errors: int = 0


@dataclass(slots=True, kw_only=True)
class Turn:
    """
    One message being answered.

    Attributes:
        model: Filled in by the method as soon as it is known, for the counts.
    """

    kernel: Kernel
    message: Incoming
    tally: Tally
    model: str | None = None


Answer = Callable[[Turn], Awaitable[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A type of message: what answers it, the type of the reply, and the scope it needs."""

    type: str
    reply: str
    scope: Scope | None
    answer: Answer


async def _discovery(turn: Turn) -> dict[str, Any]:
    tally = turn.tally
    return {
        "worker_id": f"{socket.gethostname()}-{os.getpid()}",
        "status": turn.kernel.readiness().state,
        "active_tasks": tally.active,
        "total_completed": tally.completed,
        "total_errors": tally.errors,
        "capabilities": (await _capabilities(turn))["capabilities"],
        "system_info": {"platform": platform.system(), "python": platform.python_version(), "cpus": os.cpu_count()},
    }


async def _heartbeat(turn: Turn) -> dict[str, Any]:
    return {"status": turn.kernel.readiness().state}


async def _inference(turn: Turn) -> Any:
    data, kernel = turn.message.data, turn.kernel
    turn.model = data.get("model_name")
    asked = parse_plain(_payload(data))
    proba = data.get("endpoint") == "predict_proba"
    answer = await kernel.infer(
        InferenceCall(
            model=turn.model,
            version=_version(data.get("version")),
            input=asked.input,
            door="zmq",
            proba=proba,
            correlation_id=kernel.correlation_id(_text(turn.message.request_id), None),
            key=_text(data.get("key")) or asked.key,
            event_time=asked.event_time,
        )
    )
    turn.model = answer.metadata.model
    return plain_answer(answer, proba=proba, single=asked.single)


async def _load(turn: Turn) -> dict[str, Any]:
    turn.model = str(turn.message.data.get("model_name"))
    control = turn.kernel.repository_control()
    await control.load(turn.kernel.deployed(turn.model).deployment.model)
    return {"success": True, "model_id": turn.kernel.served(turn.model).served.uuid}


async def _unload(turn: Turn) -> dict[str, Any]:
    turn.model = str(turn.message.data.get("model_name"))
    control = turn.kernel.repository_control()
    await control.unload(turn.kernel.deployed(turn.model).deployment.model)
    return {"success": True}


async def _status(turn: Turn) -> dict[str, Any]:
    status: dict[str, Any] = to_builtins(turn.kernel.status())
    return status


async def _capabilities(turn: Turn) -> dict[str, Any]:
    models = [
        {
            "name": hosted.deployment.model,
            "versions": [int(number) for number in hosted.registered],
            "endpoints": ["predict", "predict_proba"]
            if any(version.artifact.descriptor.proba for version in hosted.versions.values())
            else ["predict"],
        }
        for hosted in turn.kernel.models()
    ]
    return {"capabilities": {"models": models, "types": [method.type for method in METHODS]}}


METHODS: tuple[Method, ...] = (
    Method(type="discovery", reply="worker_info", scope=Scope.PREDICT, answer=_discovery),
    Method(type="heartbeat", reply="heartbeat_ack", scope=None, answer=_heartbeat),
    Method(type="inference_request", reply="inference_response", scope=Scope.PREDICT, answer=_inference),
    Method(type="model_load_request", reply="model_load_response", scope=Scope.DEPLOY, answer=_load),
    Method(type="model_unload_request", reply="model_unload_response", scope=Scope.DEPLOY, answer=_unload),
    Method(type="status_request", reply="status_response", scope=Scope.READ, answer=_status),
    Method(type="capabilities_request", reply="capabilities_response", scope=Scope.PREDICT, answer=_capabilities),
)
"""Every type of message of the door."""


def method_of(type_: str) -> Method:
    """
    The method for a type of message.

    Raises:
        InvalidRequest: There is none.
    """
    for method in METHODS:
        if method.type == type_:
            return method
    known = ", ".join(method.type for method in METHODS)
    raise InvalidRequest(f"{type_!r} is not a type of message.", remedy=f"There are {known}.")


def _payload(data: dict[str, Any]) -> Any:
    prompt = data.get("prompt")
    if isinstance(prompt, str):
        return read_json(prompt)
    if "inputs" not in data:
        raise InvalidRequest("An inference_request needs inputs or prompt.")
    inputs = data["inputs"]
    return inputs if isinstance(inputs, dict) and not _is_columns(inputs) else {**data, "inputs": inputs}


def _is_columns(inputs: dict[str, Any]) -> bool:
    return bool(inputs) and all(isinstance(value, list) for value in inputs.values())


def _version(value: Any) -> int | None:
    if value is None:
        return None
    if not str(value).isdigit() or not int(value):
        raise VersionNotFound(f"There is no version {value!r}.", remedy="Versions count from 1.")
    return int(value)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
