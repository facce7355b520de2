"""Checks of errors over gRPC: refused calls end with a status, and do no harm."""

from __future__ import annotations

from typing import Any, Final

import grpc

from mendel.conformance.grpc_server import BUSY, DENIED, GrpcServer, Refusal
from mendel.conformance.inference import some_inputs
from mendel.conformance.outcomes import NotOffered, Undecided, expect
from mendel.conformance.rest_errors import UNKNOWN, UNKNOWN_VERSION
from mendel.protos import open_inference_pb2 as pb

_NO_ANSWER: Final = frozenset(
    {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED, grpc.StatusCode.UNIMPLEMENTED}
)
_METHOD: Final = "/inference.GRPCInferenceService/ModelInfer"


def unknown_model(server: GrpcServer) -> str:
    """Expect an error for a model that does not exist."""
    ready = server.call("ModelReady", pb.ModelReadyRequest(name=UNKNOWN))
    expect(isinstance(ready, Refusal) or not ready.ready, "A model that does not exist is ready.")
    _refused(server.call("ModelMetadata", pb.ModelMetadataRequest(name=UNKNOWN)))
    message = server.message(some_inputs(server), model_name=UNKNOWN, model_version="")
    return _refused(server.call("ModelInfer", message))


def unknown_version(server: GrpcServer) -> str:
    """Expect an error for a version that does not exist, if the model has versions."""
    if not server.metadata().versions:
        raise NotOffered("The model announces no versions.")
    _refused(server.call("ModelMetadata", pb.ModelMetadataRequest(name=server.model, version=UNKNOWN_VERSION)))
    message = server.message(some_inputs(server), model_version=UNKNOWN_VERSION)
    return _refused(server.call("ModelInfer", message))


def wrong_shape(server: GrpcServer) -> str:
    """Expect an error if an input has fewer elements than its shape says."""
    message = server.message(server.sample().inputs)
    shape = [axis + 1 for axis in message.inputs[0].shape] or [2]
    message.inputs[0].ClearField("shape")
    message.inputs[0].shape.extend(shape)
    return _refused(server.call("ModelInfer", message))


def wrong_raw_length(server: GrpcServer) -> str:
    """Expect an error if the raw contents of an input have fewer bytes than its shape and datatype need."""
    message = server.message(server.sample().inputs, raw=True)
    if not message.raw_input_contents[0]:
        raise NotOffered("The first input has no elements.")
    message.raw_input_contents[0] = message.raw_input_contents[0][:-1]
    return _refused(server.call("ModelInfer", message))


def unknown_datatype(server: GrpcServer) -> str:
    """Expect an error for a datatype that the protocol does not have."""
    message = server.message(server.sample().inputs)
    message.inputs[0].datatype = "FP99"
    return _refused(server.call("ModelInfer", message))


def missing_inputs(server: GrpcServer) -> str:
    """Expect an error for a call without the announced inputs."""
    if not server.inputs():
        raise Undecided("The metadata announces no inputs.")
    return _refused(server.call("ModelInfer", server.message(())))


def malformed_message(server: GrpcServer) -> str:
    """Expect an error for bytes that are not the message of the method."""
    call = server.channel.unary_unary(_METHOD, request_serializer=None, response_deserializer=None)
    return _refused(server.called("ModelInfer", call, b"\xff\xff\xff\xff"))


def live_after_errors(server: GrpcServer) -> str:
    """Expect that the server is live after the refused calls, and answers as before."""
    expect(server.answered("ServerLive", pb.ServerLiveRequest()).live, "ServerLive answers live: false.")
    answer = server.answered("ModelInfer", server.message(server.sample().inputs))
    server.expect_equal(answer, "The call from before the errors")
    return ""


def _refused(answer: Any) -> str:
    expect(isinstance(answer, Refusal), "The call was answered with OK.")
    if answer.code in BUSY | DENIED:
        raise Undecided(f"The server turns the call away for another reason: {answer}")
    expect(answer.code not in _NO_ANSWER, str(answer))
    return str(answer.code.name)
