"""Checks of the health and metadata calls over gRPC."""

from __future__ import annotations

from mendel.conformance.grpc_server import GrpcServer, Refusal
from mendel.conformance.outcomes import NotOffered, expect, shown
from mendel.protos import open_inference_pb2 as pb


def server_live(server: GrpcServer) -> str:
    """Expect that the server is live."""
    expect(server.answered("ServerLive", pb.ServerLiveRequest()).live, "ServerLive answers live: false.")
    return ""


def server_ready(server: GrpcServer) -> str:
    """Expect that the server is ready."""
    expect(server.answered("ServerReady", pb.ServerReadyRequest()).ready, "ServerReady answers ready: false.")
    return ""


def model_ready(server: GrpcServer) -> str:
    """Expect that the model is ready."""
    message = pb.ModelReadyRequest(name=server.model, version=server.version)
    expect(server.answered("ModelReady", message).ready, "ModelReady answers ready: false.")
    return ""


def server_metadata(server: GrpcServer) -> str:
    """Expect name and version of the server."""
    answer = server.answered("ServerMetadata", pb.ServerMetadataRequest())
    expect(bool(answer.name), "ServerMetadata gives no name.")
    expect(bool(answer.version), "ServerMetadata gives no version.")
    return f"{shown(answer.name)} {shown(answer.version)}, extensions {shown(list(answer.extensions))}"


def model_metadata(server: GrpcServer) -> str:
    """Expect the name of the model."""
    answer = server.answered("ModelMetadata", pb.ModelMetadataRequest(name=server.model, version=server.version))
    expect(answer.name == server.model, f"ModelMetadata gives the name {shown(answer.name)!r}.")
    return f"platform {shown(answer.platform)!r}, versions {shown(list(answer.versions))}"


def model_versions(server: GrpcServer) -> str:
    """Expect that every announced version can be asked for."""
    versions = list(server.metadata().versions)[:8]
    if not versions:
        raise NotOffered("The model announces no versions.")
    for version in versions:
        for method, message in (
            ("ModelMetadata", pb.ModelMetadataRequest(name=server.model, version=version)),
            ("ModelReady", pb.ModelReadyRequest(name=server.model, version=version)),
            ("ModelInfer", server.message(server.sample().inputs, model_version=version)),
        ):
            answer = server.call(method, message)
            expect(not isinstance(answer, Refusal), f"Version {shown(version)} is announced, but {answer}")
        stated = answer.model_version
        expect(stated in {"", version}, f"Version {shown(version)} was asked, version {shown(stated)} answered.")
    return f"versions {shown(versions)}"
