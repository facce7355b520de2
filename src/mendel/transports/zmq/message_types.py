"""The types of ZMQ messages and the functions that answer them."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from mendel.errors import InvalidRequest
from mendel.serving import (
    Caller,
    InferenceAnswer,
    InferenceCall,
    Kernel,
    KernelStatus,
    key_of,
    model_name_of,
    parse_plain,
    plain_answer,
    read_json,
    shown,
    version_number,
)
from mendel.transports.zmq.messages import Incoming
from mendel.transports.zmq.replies import (
    Capabilities,
    CapabilitiesReply,
    HeartbeatReply,
    LoadReply,
    ModelCapability,
    SystemInfo,
    UnloadReply,
    WorkerInfo,
)
from mendel.values import ModelName, Scope


@dataclass(slots=True, kw_only=True)
class MessageCounts:
    """The messages that one worker is answering, has answered, and failed to answer since its ZMQ server started."""

    active: int = 0
    completed: int = 0
    errors: int = 0


@dataclass(slots=True, kw_only=True)
class MessageContext:
    """
    The arguments of the function that answers a message.

    Attributes:
        model: The model's name, which the function sets for the metrics; None until then.
    """

    kernel: Kernel
    message: Incoming
    counts: MessageCounts
    model: str | None = None


PREDICTION: Final = "inference_response"
Answer = Callable[[MessageContext], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """
    A type of message.

    ``reply`` is the type of the reply, and ``scope`` the scope that the caller's API key needs; None means that no key
    is needed. ``answer`` computes the reply; None for predictions, which are computed in groups.
    """

    type: str
    reply: str
    scope: Scope | None
    answer: Answer | None = None


async def _discovery(context: MessageContext) -> WorkerInfo:
    counts = context.counts
    return WorkerInfo(
        worker_id=f"{socket.gethostname()}-{os.getpid()}",
        status=context.kernel.readiness().state,
        active_tasks=counts.active,
        total_completed=counts.completed,
        total_errors=counts.errors,
        capabilities=_capabilities(context.kernel),
        system_info=SystemInfo(platform=platform.system(), python=platform.python_version(), cpus=os.cpu_count()),
    )


async def _heartbeat(context: MessageContext) -> HeartbeatReply:
    return HeartbeatReply(status=context.kernel.readiness().state)


class Asking(Caller, Protocol):
    """The caller of a prediction; keeps what the form of the reply depends on."""

    proba: bool
    single: bool


def prediction_of(context: MessageContext, caller: Asking) -> InferenceCall:
    """
    Decode an ``inference_request``.

    Raises:
        MendelError: The data of the message are not a request.
    """
    data, kernel = context.message.data, context.kernel
    context.model = model_name_of(data.get("model_name"))
    asked = parse_plain(rows_of(data))
    caller.single = asked.single
    caller.proba = data.get("endpoint") == "predict_proba"
    return InferenceCall(
        model=context.model,
        version=version_number(data.get("version")),
        input=asked.input,
        door="zmq",
        proba=caller.proba,
        correlation_id=kernel.correlation_id(_text(context.message.request_id), None),
        key=key_of(data.get("key")) or asked.key,
        event_time=asked.event_time,
        caller=caller,
    )


def prediction_reply(answer: InferenceAnswer, caller: Asking) -> object:
    """Give the data of an ``inference_response``."""
    return plain_answer(answer, proba=caller.proba, single=caller.single)


async def _load(context: MessageContext) -> LoadReply:
    data, kernel = context.message.data, context.kernel
    context.model = _required_model(data)
    await kernel.repository_control().load(ModelName(context.model), path=_text(data.get("model_path")))
    served = kernel.served(context.model)
    memory = kernel.memory_bytes(context.model)
    return LoadReply(model_id=served.metadata.document["model_uuid"], memory_bytes=memory)


async def _unload(context: MessageContext) -> UnloadReply:
    context.model = _required_model(context.message.data)
    control = context.kernel.repository_control()
    return UnloadReply(freed_bytes=await control.unload(ModelName(context.model)))


async def _status(context: MessageContext) -> KernelStatus:
    return context.kernel.status()


async def _capabilities_request(context: MessageContext) -> CapabilitiesReply:
    return CapabilitiesReply(capabilities=_capabilities(context.kernel))


def _capabilities(kernel: Kernel) -> Capabilities:
    models = tuple(
        ModelCapability(
            name=hosted.deployment.model,
            versions=tuple(int(number) for number in hosted.registered),
            endpoints=("predict", "predict_proba")
            if any(version.artifact.descriptor.proba for version in hosted.versions.values())
            else ("predict",),
        )
        for hosted in kernel.models()
    )
    return Capabilities(models=models, types=tuple(method.type for method in METHODS))


METHODS: tuple[Method, ...] = (
    Method(type="discovery", reply="worker_info", scope=Scope.PREDICT, answer=_discovery),
    Method(type="heartbeat", reply="heartbeat_ack", scope=None, answer=_heartbeat),
    Method(type="inference_request", reply=PREDICTION, scope=Scope.PREDICT),
    Method(type="model_load_request", reply="model_load_response", scope=Scope.DEPLOY, answer=_load),
    Method(type="model_unload_request", reply="model_unload_response", scope=Scope.DEPLOY, answer=_unload),
    Method(type="status_request", reply="status_response", scope=Scope.READ, answer=_status),
    Method(
        type="capabilities_request", reply="capabilities_response", scope=Scope.PREDICT, answer=_capabilities_request
    ),
)
"""All types of ZMQ messages."""


def method_of(type_: str) -> Method:
    """
    Find the method for the message type *type_*.

    Raises:
        InvalidRequest: The type is unknown.
    """
    for method in METHODS:
        if method.type == type_:
            return method
    known = ", ".join(method.type for method in METHODS)
    raise InvalidRequest(f"The message type {shown(type_)} is unknown.", remedy=f"Choose one of {known}.")


def rows_of(data: dict[str, Any]) -> Any:
    """
    Convert the data of an ``inference_request`` to plain JSON, the form of the REST route ``predict``.

    Raises:
        InvalidRequest: The data have neither the field ``inputs`` nor the field ``prompt``.
    """
    prompt = data.get("prompt")
    if isinstance(prompt, str):
        return read_json(prompt)
    if "inputs" not in data:
        raise InvalidRequest("The data of an inference_request need the field 'inputs' or 'prompt'.")
    inputs = data["inputs"]
    return inputs if isinstance(inputs, dict) and not _is_columns(inputs) else {**data, "inputs": inputs}


def _is_columns(inputs: dict[str, Any]) -> bool:
    return bool(inputs) and all(isinstance(value, list) for value in inputs.values())


def _required_model(data: dict[str, Any]) -> str:
    name = model_name_of(data.get("model_name"))
    if not name:
        raise InvalidRequest("The data of the message need the field 'model_name'.")
    return name


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
