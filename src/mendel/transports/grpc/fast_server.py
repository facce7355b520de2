"""Serve gRPC on our own HTTP/2 connections, accepted from the listening socket itself."""

from __future__ import annotations

import asyncio
import socket
from types import TracebackType
from typing import Final, Self

from mendel.serving import Kernel, ServingPolicy
from mendel.transports.grpc.fast_calls import FastCalls
from mendel.transports.grpc.framing import PREFIX_BYTES
from mendel.transports.grpc.method_table import METHODS
from mendel.transports.http2.application import Limits, Shared
from mendel.transports.http2.server import Http2Server
from mendel.transports.tls import server_context

_BODIES_IN_MEMORY: Final = 4


class FastGrpcServer:
    """
    A context manager that serves *kernel* over gRPC while entered.

    The exit stops accepting, asks clients to disconnect, lets calls in flight finish within ``policy.drain_timeout``,
    and closes the socket.

    Args:
        listening: The listening socket; this server closes it.
    """

    def __init__(self, kernel: Kernel, listening: socket.socket) -> None:
        self._kernel, self._listening = kernel, listening
        self._calls: FastCalls | None = None
        self._server: Http2Server | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._calls = FastCalls(self._kernel, METHODS, loop)
        shared = Shared(self._calls, limits_of(self._kernel.policy), loop, self._kernel.steady)
        self._server = Http2Server(shared, tls=server_context(self._kernel.policy.tls, ("h2",)))
        await self._server.open(self._listening)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._calls is not None and self._server is not None:
            self._calls.stop()
            await self._server.close()


def limits_of(policy: ServingPolicy) -> Limits:
    """Take the limits from the server's *policy*, which is already divided among the workers."""
    return Limits(
        header_bytes=policy.header_bytes,
        header_timeout=policy.header_timeout.total_seconds(),
        body_bytes=policy.max_body_bytes + PREFIX_BYTES,
        body_timeout=policy.body_timeout.total_seconds(),
        memory_bytes=_BODIES_IN_MEMORY * policy.max_body_bytes,
        idle_timeout=policy.idle_timeout.total_seconds(),
        max_age=policy.max_connection_age.total_seconds(),
        drain_timeout=policy.drain_timeout.total_seconds(),
        max_connections=policy.max_connections,
    )
