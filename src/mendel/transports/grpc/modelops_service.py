"""The gRPC service ``modelops.ModelOps``: inference in plain JSON, and loading and unloading of models."""

from __future__ import annotations

from typing import Any

from mendel.errors import InvalidRequest
from mendel.protos import modelops_pb2 as pb
from mendel.protos import modelops_pb2_grpc as stubs
from mendel.serving import InferenceCall, Kernel, parse_plain, plain_body, read_json, version_number
from mendel.transports.grpc.call_handling import Method, answering
from mendel.values import ModelName, Scope

_SERVICE = "/modelops.ModelOps"
METHODS = {
    name: Method(name=f"{_SERVICE}/{name}", scope=scope)
    for name, scope in {
        "Infer": Scope.PREDICT,
        "LoadModel": Scope.DEPLOY,
        "UnloadModel": Scope.DEPLOY,
        "ListModels": Scope.READ,
    }.items()
}
_PROBA = "predict_proba"


class ModelOps(stubs.ModelOpsServicer):
    """The implementation of ``modelops.ModelOps``."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    async def Infer(self, request: pb.InferenceRequest, context: Any) -> pb.InferenceResponse:  # noqa: N802 - the service's
        """
        Predict the rows of the plain JSON in ``prompt``.

        ``parameters`` may contain ``version``, ``key`` and ``endpoint`` with the value ``predict_proba``.
        """
        async with answering(self._kernel, METHODS["Infer"], context) as call:
            call.model = request.model_name or None
            asked = parse_plain(read_json(request.prompt))
            proba = request.parameters.get("endpoint") == _PROBA
            answer = await self._kernel.infer(
                InferenceCall(
                    model=call.model,
                    version=version_number(request.parameters.get("version", "")),
                    input=asked.input,
                    door="grpc",
                    proba=proba,
                    timeout=call.timeout,
                    correlation_id=call.correlation_id,
                    key=request.parameters.get("key", asked.key),
                    event_time=asked.event_time,
                )
            )
            call.model = answer.metadata.model
            text = plain_body(answer, proba=proba, single=asked.single).decode()
            took = answer.took.total_seconds() * 1000
            return pb.InferenceResponse(response_text=text, inference_time_ms=took, status="ok")

    async def LoadModel(self, request: pb.ModelLoadRequest, context: Any) -> pb.ModelLoadReply:  # noqa: N802
        """Load a model's deployed versions, or the model at ``model_path``, in every process of the server."""
        async with answering(self._kernel, METHODS["LoadModel"], context) as call:
            call.model = request.model_name
            control = self._kernel.repository_control()
            if request.shards > 1 or request.load_params:
                raise InvalidRequest(
                    "Models cannot be loaded in shards or with load_params.",
                    remedy="Leave out the fields shards and load_params.",
                )
            await control.load(ModelName(request.model_name), path=request.model_path or None)
            served = self._kernel.served(request.model_name)
            return pb.ModelLoadReply(
                success=True,
                message=f"{served.ref} is loaded.",
                model_id=served.metadata.document["model_uuid"] or "",
                vram_used_mb=_megabytes(self._kernel.memory_bytes(request.model_name)),
            )

    async def UnloadModel(self, request: pb.ModelUnloadRequest, context: Any) -> pb.ModelUnloadReply:  # noqa: N802
        """
        Unload a model in every process of the server, after its requests in flight have been answered.

        The field ``force`` has no effect.
        """
        async with answering(self._kernel, METHODS["UnloadModel"], context) as call:
            call.model = request.model_name
            control = self._kernel.repository_control()
            freed = await control.unload(ModelName(request.model_name))
            text = f"{request.model_name} is unloaded."
            return pb.ModelUnloadReply(success=True, message=text, vram_freed_mb=_megabytes(freed or 0))

    async def ListModels(self, _: Any, context: Any) -> pb.ModelList:  # noqa: N802
        """List the model versions that this server has loaded."""
        async with answering(self._kernel, METHODS["ListModels"], context):
            models = [
                pb.ModelInfo(
                    name=model.model,
                    path="" if version.uuid is None else f"models:/{version.uuid}",
                    status=", ".join(version.roles),
                    vram_mb=_megabytes(self._kernel.memory_bytes(model.model, version.version)),
                    load_time=int(version.loaded_at.timestamp()),
                )
                for model in self._kernel.status().models
                for version in model.versions
            ]
            total = sum(model.vram_mb for model in models)
            return pb.ModelList(models=models, total_count=len(models), total_vram_mb=total)


def _megabytes(size: int) -> int:
    return round(size / (1 << 20))
