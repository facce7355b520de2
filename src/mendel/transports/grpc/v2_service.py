"""The gRPC service ``inference.GRPCInferenceService`` of the Open Inference Protocol v2."""

from __future__ import annotations

from typing import Final

from mendel.errors import NotReady
from mendel.protos import open_inference_pb2 as pb
from mendel.serving import (
    Caller,
    InferenceCall,
    Kernel,
    event_time_of,
    input_specs,
    key_of,
    output_specs,
    version_number,
)
from mendel.transports.grpc.infer_response import encode_infer
from mendel.transports.grpc.methods import Call, InferenceMethod, Method, UnaryMethod
from mendel.transports.grpc.tensor_contents import parameter, tensors_of
from mendel.transports.protocol_extensions import protocol_extensions
from mendel.values import Scope

_SERVICE: Final = "/inference.GRPCInferenceService"


async def _server_live(_: Kernel, __: pb.ServerLiveRequest, ___: Call) -> pb.ServerLiveResponse:
    return pb.ServerLiveResponse(live=True)


async def _server_ready(kernel: Kernel, _: pb.ServerReadyRequest, __: Call) -> pb.ServerReadyResponse:
    """Answer whether every deployed model has been loaded or has failed to load on this server."""
    return pb.ServerReadyResponse(ready=kernel.readiness().ready)


async def _model_ready(kernel: Kernel, request: pb.ModelReadyRequest, _: Call) -> pb.ModelReadyResponse:
    """Answer whether a model, or one version of the model, can predict."""
    try:
        served = kernel.served(request.name, version_number(request.version))
    except NotReady:
        return pb.ModelReadyResponse(ready=False)
    return pb.ModelReadyResponse(ready=served.unready is None)


async def _server_metadata(kernel: Kernel, _: pb.ServerMetadataRequest, __: Call) -> pb.ServerMetadataResponse:
    return pb.ServerMetadataResponse(name="mendel", version=kernel.version, extensions=protocol_extensions(kernel))


async def _model_metadata(kernel: Kernel, request: pb.ModelMetadataRequest, call: Call) -> pb.ModelMetadataResponse:
    """Answer with the versions, inputs and outputs of a model."""
    call.model = request.name
    served = kernel.served(request.name, version_number(request.version))
    response = pb.ModelMetadataResponse(
        name=served.ref.model,
        versions=kernel.deployed(served.ref.model).registered,
        platform=f"mendel_{served.served.flavor}",
    )
    for specs, target in ((input_specs(served), response.inputs), (output_specs(served), response.outputs)):
        for spec in specs:
            target.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
    return response


def _decode_infer(request: pb.ModelInferRequest, call: Call, caller: Caller | None) -> InferenceCall:
    call.model = request.model_name or None
    return InferenceCall(
        model=call.model,
        version=version_number(request.model_version),
        input=tensors_of(request),
        door="grpc",
        timeout=call.timeout,
        correlation_id=call.correlation_id,
        key=key_of(parameter(request.parameters, "key")),
        event_time=event_time_of(parameter(request.parameters, "event_time")),
        caller=caller,
    )


METHODS: Final[tuple[Method, ...]] = (
    UnaryMethod(name=f"{_SERVICE}/ServerLive", scope=None, request=pb.ServerLiveRequest, answer=_server_live),
    UnaryMethod(name=f"{_SERVICE}/ServerReady", scope=None, request=pb.ServerReadyRequest, answer=_server_ready),
    UnaryMethod(name=f"{_SERVICE}/ModelReady", scope=None, request=pb.ModelReadyRequest, answer=_model_ready),
    UnaryMethod(
        name=f"{_SERVICE}/ServerMetadata",
        scope=Scope.PREDICT,
        request=pb.ServerMetadataRequest,
        answer=_server_metadata,
    ),
    UnaryMethod(
        name=f"{_SERVICE}/ModelMetadata", scope=Scope.PREDICT, request=pb.ModelMetadataRequest, answer=_model_metadata
    ),
    InferenceMethod(
        name=f"{_SERVICE}/ModelInfer",
        scope=Scope.PREDICT,
        request=pb.ModelInferRequest,
        decode=_decode_infer,
        encode=encode_infer,
    ),
)
