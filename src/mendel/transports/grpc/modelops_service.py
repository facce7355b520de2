"""The gRPC service ``modelops.ModelOps``: inference in plain JSON, and loading and unloading of models."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf import empty_pb2

from mendel.errors import InvalidRequest
from mendel.protos import modelops_pb2 as pb
from mendel.serving import (
    Caller,
    InferenceAnswer,
    InferenceCall,
    Kernel,
    parse_plain,
    plain_body,
    read_json,
    version_number,
)
from mendel.transports.grpc.methods import Call, InferenceMethod, Method, UnaryMethod
from mendel.values import ModelName, Scope

_SERVICE: Final = "/modelops.ModelOps"
_PROBA: Final = "predict_proba"


def _decode_infer(request: pb.InferenceRequest, call: Call, caller: Caller | None) -> InferenceCall:
    """
    Read the plain JSON in ``prompt``.

    ``parameters`` may contain ``version``, ``key`` and ``endpoint`` with the value ``predict_proba``.
    """
    call.model = request.model_name or None
    asked = parse_plain(read_json(request.prompt))
    call.single = asked.single
    parameters = request.parameters
    return InferenceCall(
        model=call.model,
        version=version_number(parameters.get("version", "")),
        input=asked.input,
        door="grpc",
        proba=_wants_probabilities(request),
        timeout=call.timeout,
        correlation_id=call.correlation_id,
        key=parameters.get("key", asked.key),
        event_time=asked.event_time,
        caller=caller,
    )


def _encode_infer(request: pb.InferenceRequest, call: Call, answer: InferenceAnswer, _: dict[Any, bytes]) -> bytes:
    body = plain_body(answer, proba=_wants_probabilities(request), single=call.single)
    took = answer.took.total_seconds() * 1000
    return pb.InferenceResponse(response_text=body.decode(), inference_time_ms=took, status="ok").SerializeToString()


def _wants_probabilities(request: pb.InferenceRequest) -> bool:
    return request.parameters.get("endpoint") == _PROBA


async def _load_model(kernel: Kernel, request: pb.ModelLoadRequest, call: Call) -> pb.ModelLoadReply:
    """Load a model's deployed versions, or the model at ``model_path``, in every process of the server."""
    call.model = request.model_name
    control = kernel.repository_control()
    if request.shards > 1 or request.load_params:
        raise InvalidRequest(
            "Models cannot be loaded in shards or with load_params.",
            remedy="Leave out the fields shards and load_params.",
        )
    await control.load(ModelName(request.model_name), path=request.model_path or None)
    served = kernel.served(request.model_name)
    return pb.ModelLoadReply(
        success=True,
        message=f"{served.ref} is loaded.",
        model_id=served.metadata.document["model_uuid"] or "",
        vram_used_mb=_megabytes(kernel.memory_bytes(request.model_name)),
    )


async def _unload_model(kernel: Kernel, request: pb.ModelUnloadRequest, call: Call) -> pb.ModelUnloadReply:
    """
    Unload a model in every process of the server, after its requests in flight have been answered.

    The field ``force`` has no effect.
    """
    call.model = request.model_name
    control = kernel.repository_control()
    freed = await control.unload(ModelName(request.model_name))
    text = f"{request.model_name} is unloaded."
    return pb.ModelUnloadReply(success=True, message=text, vram_freed_mb=_megabytes(freed or 0))


async def _list_models(kernel: Kernel, _: empty_pb2.Empty, __: Call) -> pb.ModelList:
    """List the model versions that this server has loaded."""
    models = [
        pb.ModelInfo(
            name=model.model,
            path="" if version.uuid is None else f"models:/{version.uuid}",
            status=", ".join(version.roles),
            vram_mb=_megabytes(kernel.memory_bytes(model.model, version.version)),
            load_time=int(version.loaded_at.timestamp()),
        )
        for model in kernel.status().models
        for version in model.versions
    ]
    total = sum(model.vram_mb for model in models)
    return pb.ModelList(models=models, total_count=len(models), total_vram_mb=total)


def _megabytes(size: int) -> int:
    return round(size / (1 << 20))


METHODS: Final[tuple[Method, ...]] = (
    InferenceMethod(
        name=f"{_SERVICE}/Infer",
        scope=Scope.PREDICT,
        request=pb.InferenceRequest,
        decode=_decode_infer,
        encode=_encode_infer,
    ),
    UnaryMethod(name=f"{_SERVICE}/LoadModel", scope=Scope.DEPLOY, request=pb.ModelLoadRequest, answer=_load_model),
    UnaryMethod(
        name=f"{_SERVICE}/UnloadModel", scope=Scope.DEPLOY, request=pb.ModelUnloadRequest, answer=_unload_model
    ),
    UnaryMethod(name=f"{_SERVICE}/ListModels", scope=Scope.READ, request=empty_pb2.Empty, answer=_list_models),
)
