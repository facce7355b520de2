"""A small gRPC server of the Open Inference Protocol v2 that conforms, until a test changes its answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from mendel.conformance.grpc_server import contents_field
from mendel.conformance.tensors import DATATYPES, Tensor, from_raw, to_raw
from mendel.protos import open_inference_pb2 as pb

SERVICE = "inference.GRPCInferenceService"
MALFORMED = b""
EXTENSIONS = ("statistics", "model_repository")
SUCCESSES = count(1)
OPTIONS = [("grpc.max_receive_message_length", 64 << 20), ("grpc.so_reuseport", 0)]
Change = Callable[[str, Any, Any], Any]
"""Gives another answer, from the method, the request and the right answer (or the status, if it is refused)."""


@dataclass
class TinyGrpcServer:
    """The state of the server; ``change`` alters each answer, also a refusal."""

    address: str = ""
    change: Change = lambda _method, _request, answer: answer
    serving: Any = health_pb2.HealthCheckResponse.SERVING


class Refused(Exception):
    """A call ends with a status other than OK."""

    def __init__(self, code: grpc.StatusCode, text: str = "refused") -> None:
        super().__init__(text)
        self.code = code


def _infer(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    inputs = {one.name: _input(request, place) for place, one in enumerate(request.inputs)}
    if inputs.keys() != {"x", "tag"}:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "inputs")
    x, tags = inputs["x"].values, inputs["tag"].values
    sums = tuple(x[place] + 2 * x[place + 1] for place in range(0, len(x), 2))
    answer = pb.ModelInferResponse(model_name="m", model_version="1", id=request.id)
    for output in (
        Tensor(name="sum", datatype="FP32", shape=(len(sums),), values=sums),
        Tensor(name="tag", datatype="BYTES", shape=(len(tags),), values=tags),
    ):
        if request.outputs and output.name not in {one.name for one in request.outputs}:
            continue
        target = answer.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        if request.raw_input_contents:
            answer.raw_output_contents.append(to_raw(output))
        else:
            getattr(target.contents, contents_field(output.datatype)).extend(output.values)
    return answer


def _input(request: pb.ModelInferRequest, place: int) -> Tensor:
    one = request.inputs[place]
    if one.datatype not in DATATYPES:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "datatype")
    if request.raw_input_contents:
        try:
            return from_raw(request.raw_input_contents[place], one.name, one.datatype, one.shape)
        except Exception as error:
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "raw length") from error
    values = tuple(getattr(one.contents, contents_field(one.datatype)))
    if len(values) != math.prod(one.shape):
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "shape")
    return Tensor(name=one.name, datatype=one.datatype, shape=tuple(one.shape), values=values)


def _metadata(request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
    answer = pb.ModelMetadataResponse(name=request.name, versions=["1"], platform="tiny")
    answer.inputs.add(name="x", datatype="FP32", shape=[-1, 2])
    answer.inputs.add(name="tag", datatype="BYTES", shape=[-1])
    answer.outputs.add(name="sum", datatype="FP32", shape=[-1])
    answer.outputs.add(name="tag", datatype="BYTES", shape=[-1])
    return answer


def _statistics() -> pb.ModelStatisticsResponse:
    """Counts more successes each time, as after a call."""
    times = pb.InferStatistics(success=pb.StatisticDuration(count=next(SUCCESSES)))
    return pb.ModelStatisticsResponse(model_stats=[pb.ModelStatistics(name="m", version="1", inference_stats=times)])


ANSWERS: dict[str, Callable[[Any], Any]] = {
    "ServerLive": lambda _: pb.ServerLiveResponse(live=True),
    "ServerReady": lambda _: pb.ServerReadyResponse(ready=True),
    "ServerMetadata": lambda _: pb.ServerMetadataResponse(name="tiny", version="1.0", extensions=EXTENSIONS),
    "ModelStatistics": lambda _: _statistics(),
    "RepositoryIndex": lambda _: pb.RepositoryIndexResponse(models=[{"name": "m", "version": "1"}]),
    "ModelReady": lambda _: pb.ModelReadyResponse(ready=True),
    "ModelMetadata": _metadata,
    "ModelInfer": _infer,
}


def _handlers(tiny: TinyGrpcServer) -> grpc.GenericRpcHandler:
    def handler(name: str) -> grpc.RpcMethodHandler[Any, Any]:
        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                _known(request)
                right: Any = ANSWERS[name](request)
            except Refused as refused:
                right = refused
            changed = tiny.change(name, request, right)
            if isinstance(changed, Refused):
                context.abort(changed.code, str(changed))
            return changed

        def decoded(message: bytes) -> Any:
            try:
                return getattr(pb, f"{name}Request").FromString(message)
            except DecodeError:
                return MALFORMED

        encoded = getattr(pb, f"{name}Response").SerializeToString
        return grpc.unary_unary_rpc_method_handler(answer, request_deserializer=decoded, response_serializer=encoded)

    return grpc.method_handlers_generic_handler(SERVICE, {name: handler(name) for name in ANSWERS})


def _known(request: Any) -> None:
    if request == MALFORMED:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "malformed")
    model = getattr(request, "name", getattr(request, "model_name", "m"))
    version = getattr(request, "version", getattr(request, "model_version", ""))
    if model != "m" or version not in {"", "1"}:
        raise Refused(grpc.StatusCode.NOT_FOUND)


class _Health(health_pb2_grpc.HealthServicer):
    def __init__(self, tiny: TinyGrpcServer) -> None:
        self._tiny = tiny

    def Check(self, *_: Any) -> Any:  # noqa: N802
        return health_pb2.HealthCheckResponse(status=self._tiny.serving)


@contextmanager
def tiny_grpc_server(
    *, most_bytes: int | None = None, listed: tuple[str, ...] = (SERVICE,)
) -> Iterator[TinyGrpcServer]:
    """Run the server; *listed* are the services that reflection shows, *most_bytes* bounds messages."""
    tiny = TinyGrpcServer()
    options = OPTIONS if most_bytes is None else [("grpc.max_receive_message_length", most_bytes)]
    server = grpc.server(ThreadPoolExecutor(40), options=options)
    server.add_generic_rpc_handlers((_handlers(tiny),))
    health_pb2_grpc.add_HealthServicer_to_server(_Health(tiny), server)
    reflection.enable_server_reflection(listed, server)
    tiny.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield tiny
    finally:
        server.stop(None).wait()
