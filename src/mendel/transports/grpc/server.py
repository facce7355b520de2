"""Run grpcio's server on a private unix socket and forward connections from the listening socket to that socket."""

from __future__ import annotations

import socket
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from mendel.protos import modelops_pb2_grpc, open_inference_pb2_grpc
from mendel.serving import Kernel
from mendel.transports.grpc import health_service, modelops_service, v2_service
from mendel.transports.grpc.call_handling import Method
from mendel.transports.grpc.malformed_messages import MalformedMessages
from mendel.transports.socket_splice import Splice

SERVICES = frozenset({"inference.GRPCInferenceService", "modelops.ModelOps", "grpc.health.v1.Health"})
_REFLECTION = Method(name="/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", scope=None)
METHODS: tuple[Method, ...] = (
    *v2_service.METHODS.values(),
    *modelops_service.METHODS.values(),
    *health_service.METHODS.values(),
    _REFLECTION,
)
"""All gRPC methods with the scopes that they need."""


class GrpcServer:
    """
    A context manager that serves *kernel* over gRPC while entered.

    The exit stops accepting, asks clients to disconnect, lets calls in flight finish within ``policy.drain_timeout``,
    and closes the socket.

    Args:
        listening: The listening socket; this server closes it.
        scratch: The directory for the private unix socket; None uses the system's temporary directory.
    """

    def __init__(self, kernel: Kernel, listening: socket.socket, *, scratch: Path | None = None) -> None:
        self._kernel, self._listening, self._scratch = kernel, listening, scratch
        self._resources = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="grpc-", dir=self._scratch))
            path = f"{directory}/s"
            server = grpc.aio.server(interceptors=(MalformedMessages(),), options=_options(self._kernel))
            _add_services(server, self._kernel)
            server.add_insecure_port(f"unix:{path}")
            splice = Splice(self._listening, path, max_connections=self._kernel.policy.max_connections)
            await server.start()
            stack.push_async_callback(splice.finish)
            stack.push_async_callback(server.stop, self._kernel.policy.drain_timeout.total_seconds())
            stack.callback(splice.stop_accepting)
            await splice.open()
            self._resources = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._resources.aclose()


def _add_services(server: grpc.aio.Server, kernel: Kernel) -> None:
    add_v2 = open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server
    add_v2(v2_service.OpenInference(kernel), server)  # type: ignore[no-untyped-call]
    modelops_pb2_grpc.add_ModelOpsServicer_to_server(modelops_service.ModelOps(kernel), server)  # type: ignore[no-untyped-call]
    health_pb2_grpc.add_HealthServicer_to_server(health_service.Health(kernel, SERVICES), server)
    reflection.enable_server_reflection((*SERVICES, reflection.SERVICE_NAME), server)


def _options(kernel: Kernel) -> list[tuple[str, Any]]:
    policy = kernel.policy
    return [
        ("grpc.max_receive_message_length", policy.max_body_bytes),
        ("grpc.max_send_message_length", policy.max_body_bytes),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.max_connection_age_ms", int(policy.max_connection_age.total_seconds() * 1000)),
        ("grpc.max_connection_age_grace_ms", int(policy.drain_timeout.total_seconds() * 1000)),
        ("grpc.max_concurrent_streams", 1 << 16),
    ]
