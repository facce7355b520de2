"""The gRPC service ``inference.GRPCInferenceService`` of the Open Inference Protocol v2."""

from __future__ import annotations

from typing import Any

from mendel.errors import NotReady
from mendel.protos import open_inference_pb2 as pb
from mendel.protos import open_inference_pb2_grpc as stubs
from mendel.serving import (
    InferenceCall,
    Kernel,
    answer_parameters,
    event_time_of,
    input_specs,
    key_of,
    output_specs,
    output_tensors,
    version_number,
)
from mendel.transports.grpc.call_handling import Method, answering
from mendel.transports.grpc.tensor_contents import parameter, response_of, tensors_of
from mendel.values import Scope

_SERVICE = "/inference.GRPCInferenceService"
METHODS = {
    name: Method(name=f"{_SERVICE}/{name}", scope=scope)
    for name, scope in {
        "ServerLive": None,
        "ServerReady": None,
        "ModelReady": None,
        "ServerMetadata": Scope.PREDICT,
        "ModelMetadata": Scope.PREDICT,
        "ModelInfer": Scope.PREDICT,
    }.items()
}


class OpenInference(stubs.GRPCInferenceServiceServicer):
    """The implementation of ``inference.GRPCInferenceService``."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel

    async def ServerLive(self, _: pb.ServerLiveRequest, context: Any) -> pb.ServerLiveResponse:  # noqa: N802 - the service's
        """Answer that the server is live."""
        async with answering(self._kernel, METHODS["ServerLive"], context):
            return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, _: pb.ServerReadyRequest, context: Any) -> pb.ServerReadyResponse:  # noqa: N802
        """Answer whether every deployed model has been loaded or has failed to load on this server."""
        async with answering(self._kernel, METHODS["ServerReady"], context):
            return pb.ServerReadyResponse(ready=self._kernel.readiness().ready)

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Any) -> pb.ModelReadyResponse:  # noqa: N802
        """Answer whether a model, or one version of the model, can predict."""
        async with answering(self._kernel, METHODS["ModelReady"], context):
            try:
                served = self._kernel.served(request.name, version_number(request.version))
            except NotReady:
                return pb.ModelReadyResponse(ready=False)
            return pb.ModelReadyResponse(ready=served.unready is None)

    async def ServerMetadata(self, _: pb.ServerMetadataRequest, context: Any) -> pb.ServerMetadataResponse:  # noqa: N802
        """Answer with the name and the version of the server."""
        async with answering(self._kernel, METHODS["ServerMetadata"], context):
            return pb.ServerMetadataResponse(name="mendel", version=self._kernel.version)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Any) -> pb.ModelMetadataResponse:  # noqa: N802
        """Answer with the versions, inputs and outputs of a model."""
        async with answering(self._kernel, METHODS["ModelMetadata"], context) as call:
            call.model = request.name
            served = self._kernel.served(request.name, version_number(request.version))
            response = pb.ModelMetadataResponse(
                name=served.ref.model,
                versions=self._kernel.deployed(served.ref.model).registered,
                platform=f"mendel_{served.served.flavor}",
            )
            for specs, target in ((input_specs(served), response.inputs), (output_specs(served), response.outputs)):
                for spec in specs:
                    target.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
            return response

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Any) -> pb.ModelInferResponse:  # noqa: N802
        """Predict the rows in the request's tensors."""
        async with answering(self._kernel, METHODS["ModelInfer"], context) as call:
            call.model = request.model_name or None
            answer = await self._kernel.infer(
                InferenceCall(
                    model=call.model,
                    version=version_number(request.model_version),
                    input=tensors_of(request),
                    door="grpc",
                    timeout=call.timeout,
                    correlation_id=call.correlation_id,
                    key=key_of(parameter(request.parameters, "key")),
                    event_time=event_time_of(parameter(request.parameters, "event_time")),
                )
            )
            call.model = answer.metadata.model
            tensors = output_tensors(answer, [output.name for output in request.outputs])
            return response_of(request, answer, tensors, answer_parameters(answer))
