"""Checks of what gRPC servers often have besides the protocol: health, reflection, large messages."""

from __future__ import annotations

from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from mendel.conformance.grpc_server import GrpcServer, Refusal, parameters
from mendel.conformance.outcomes import NotOffered, Undecided, Violation, expect, shown
from mendel.protos import open_inference_pb2 as pb

_LARGE_BYTES: Final = 5 << 20
_SERVICE: Final = "inference.GRPCInferenceService"


def health_service(server: GrpcServer) -> str:
    """Expect that the health service, if there is one, says that the server serves."""
    call = health_pb2_grpc.HealthStub(server.channel).Check
    answer = server.called("Health.Check", call, health_pb2.HealthCheckRequest())
    _require(answer)
    expect(answer.status == health_pb2.HealthCheckResponse.SERVING, f"Health.Check answers {shown(str(answer))}")
    return "SERVING"


def reflection(server: GrpcServer) -> str:
    """Expect that reflection, if there is any, lists the inference service."""
    call = reflection_pb2_grpc.ServerReflectionStub(server.channel).ServerReflectionInfo
    nothing = Refusal("ServerReflectionInfo", grpc.StatusCode.UNKNOWN, "no answer")
    listing = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    answer = server.called(
        "ServerReflectionInfo", lambda message, **more: next(call(message, **more), nothing), listing
    )
    _require(answer)
    names = [service.name for service in answer.list_services_response.service]
    expect(_SERVICE in names, f"Reflection lists {shown(names)}.")
    return f"{len(names)} services"


def statistics(server: GrpcServer) -> str:
    """Expect that the statistics of the model count a successful call."""
    _require_extension(server, "statistics")
    before = _successes(server)
    server.answered("ModelInfer", server.message(server.sample().inputs))
    after = _successes(server)
    expect(after > before, f"The model counted {before} calls with success, and {after} after one more.")
    return f"{after} calls with success"


def repository_index(server: GrpcServer) -> str:
    """Expect the model in the index of the repository."""
    _require_extension(server, "model_repository")
    names = [one.name for one in server.answered("RepositoryIndex", pb.RepositoryIndexRequest()).models]
    expect(server.model in names, f"The index does not list the model: {shown(names)}")
    return f"{len(names)} entries"


def large_message(server: GrpcServer) -> str:
    """Expect that a message of more than 4 MiB, the default bound of gRPC, is taken."""
    text = parameters({"conformance_text": "a" * _LARGE_BYTES})
    answer = server.call("ModelInfer", server.message(server.sample().inputs, parameters=text))
    if isinstance(answer, Refusal):
        if answer.code is grpc.StatusCode.INVALID_ARGUMENT:
            raise Undecided(f"The message was refused for another reason, perhaps its parameter: {answer}")
        raise Violation(str(answer))
    return f"{_LARGE_BYTES >> 20} MiB"


def equal_to_rest(server: GrpcServer) -> str:
    """Expect that the same inputs get the same outputs over REST and gRPC."""
    if server.rest is None:
        raise NotOffered("The server was not asked over REST.")
    sample, other = server.sample(), server.rest.sample()
    if sample.inputs != other.inputs:
        raise Undecided("The two protocols accept different inputs.")
    server.expect_outputs(server.rest.readable(other.answer), "REST")
    return ""


def _require_extension(server: GrpcServer, extension: str) -> None:
    metadata = server.call("ServerMetadata", pb.ServerMetadataRequest())
    if isinstance(metadata, Refusal) or extension not in metadata.extensions:
        raise NotOffered(f"The server does not announce {extension!r}.")


def _successes(server: GrpcServer) -> int:
    answer = server.answered("ModelStatistics", pb.ModelStatisticsRequest(name=server.model))
    counts = [one.inference_stats.success.count for one in answer.model_stats if one.name == server.model]
    expect(bool(counts), f"The statistics do not have the model: {shown(str(answer))}")
    return sum(counts)


def _require(answer: Any) -> None:
    if isinstance(answer, Refusal):
        if answer.code is grpc.StatusCode.UNIMPLEMENTED:
            raise NotOffered("The server does not have this service.")
        raise Violation(str(answer))
