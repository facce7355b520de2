"""The gRPC service ``modelops.ModelOps``: inference in plain JSON, and loading and unloading of models."""

from __future__ import annotations

from typing import Any

import orjson

from mendel.errors import InvalidRequest
from mendel.protos import modelops_pb2 as pb
from mendel.protos import modelops_pb2_grpc as stubs
from mendel.serving import InferenceCall, Kernel, parse_plain, plain_answer, read_json, version_number
from mendel.transports.grpc.call_handling import Method, answering
from mendel.values import Scope

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
            text = orjson.dumps(plain_answer(answer, proba=proba, single=asked.single)).decode()
            took = answer.took.total_seconds() * 1000
            return pb.InferenceResponse(response_text=text, inference_time_ms=took, status="ok")

    async def LoadModel(self, request: pb.ModelLoadRequest, context: Any) -> pb.ModelLoadReply:  # noqa: N802
        """Load the deployed versions of a model; answer when all processes of the server have loaded them."""
        async with answering(self._kernel, METHODS["LoadModel"], context) as call:
            call.model = request.model_name
            control = self._kernel.repository_control()
            if request.model_path:
                raise InvalidRequest(
                    "This server cannot load a model from a path.",
                    remedy="Register the model as a version, and promote the version.",
                )
            model = self._kernel.deployed(request.model_name).deployment.model
            await control.load(model)
            served = self._kernel.served(model)
            return pb.ModelLoadReply(success=True, message=f"{served.ref} is loaded.", model_id=served.served.uuid)

    async def UnloadModel(self, request: pb.ModelUnloadRequest, context: Any) -> pb.ModelUnloadReply:  # noqa: N802
        """Unload a model; answer when all processes of the server have unloaded the model."""
        async with answering(self._kernel, METHODS["UnloadModel"], context) as call:
            call.model = request.model_name
            control = self._kernel.repository_control()
            await control.unload(self._kernel.deployed(request.model_name).deployment.model)
            return pb.ModelUnloadReply(success=True, message=f"{request.model_name} is unloaded.")

    async def ListModels(self, _: Any, context: Any) -> pb.ModelList:  # noqa: N802
        """List the model versions that this server has loaded."""
        async with answering(self._kernel, METHODS["ListModels"], context):
            models = [
                pb.ModelInfo(
                    name=model.model,
                    path="" if version.uuid is None else f"models:/{version.uuid}",
                    status=", ".join(version.roles),
                    load_time=int(version.loaded_at.timestamp()),
                )
                for model in self._kernel.status().models
                for version in model.versions
            ]
            return pb.ModelList(models=models, total_count=len(models))
