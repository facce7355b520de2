"""Run grpcio's server on a private unix socket and forward connections from the listening socket to that socket."""

from __future__ import annotations

import socket
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from mendel.serving import Kernel
from mendel.transports.grpc.method_table import METHODS
from mendel.transports.grpc.standard_methods import StandardMethods
from mendel.transports.socket_splice import Splice
from mendel.transports.tls import contents
from mendel.values import TlsFiles


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
            server = grpc.aio.server(options=_options(self._kernel))
            server.add_generic_rpc_handlers((StandardMethods(self._kernel, METHODS),))
            _listen(server, f"unix:{path}", self._kernel.policy.tls)
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


def _listen(server: grpc.aio.Server, address: str, tls: TlsFiles) -> None:
    if not tls.named:
        server.add_insecure_port(address)
        return
    key, certificate, authorities = contents(tls)
    credentials = grpc.ssl_server_credentials(
        [(key, certificate)], root_certificates=authorities, require_client_auth=authorities is not None
    )
    server.add_secure_port(address, credentials)


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
