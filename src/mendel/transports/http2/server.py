"""Accept HTTP/2 connections on a listening socket, within the limits of the server."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import socket
import ssl
from itertools import count
from typing import Final

import structlog

from mendel.resilience import fault_of
from mendel.transports.http2.application import Shared
from mendel.transports.http2.connection import Connection
from mendel.transports.http2.frames import ErrorCode

_SWEEP_EVERY_S: Final = 1.0
_SPREAD_STEPS: Final = 16
_GOODBYE_S: Final = 1.0
"""How long a peer may take to answer the end of an encrypted connection."""
_BACKLOG: Final = 2048
_NO_FILES_S: Final = 0.5
"""How long no connection is accepted after the system could not give a further one."""
_log = structlog.get_logger("mendel.grpc")


class Http2Server:
    """
    Serves HTTP/2 connections.

    Args:
        tls: Encrypts the connections; None serves without TLS.
    """

    def __init__(self, shared: Shared, *, tls: ssl.SSLContext | None = None) -> None:
        self._shared, self._limits, self._tls = shared, shared.limits, tls
        self._connections: set[Connection] = set()
        self._evicted: set[Connection] = set()
        self._numbers = count()
        self._server: asyncio.Server | None = None
        self._sweeping: asyncio.Task[None] | None = None
        self._empty = asyncio.Event()
        self._accepting: asyncio.Task[None] | None = None
        self._handshakes: dict[asyncio.Task[None], None] = {}

    async def open(self, listening: socket.socket) -> None:
        """Accept connections from *listening*, which this server closes."""
        loop = asyncio.get_running_loop()
        if self._tls is None:
            self._server = await loop.create_server(self._connection, sock=listening, backlog=_BACKLOG)
        else:
            listening.listen(_BACKLOG)
            listening.setblocking(False)
            self._accepting = asyncio.create_task(self._accept(listening, self._tls))
        self._sweeping = asyncio.create_task(self._sweep())

    async def close(self) -> None:
        """Stop accepting, drain every connection, and close what is left after ``drain_timeout``."""
        if self._server is not None:
            self._server.close()
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
        for handshake in list(self._handshakes):
            handshake.cancel()
        for connection in list(self._connections):
            connection.drain()
        if self._connections:
            self._empty.clear()
            await self._empty.wait()
        if self._sweeping is not None:
            self._sweeping.cancel()

    async def _accept(self, listening: socket.socket, tls: ssl.SSLContext) -> None:
        """Accept connections; while too many are in their handshake, the oldest of these is closed for a new one."""
        loop = asyncio.get_running_loop()
        with listening:
            while True:
                try:
                    accepted, _ = await loop.sock_accept(listening)
                except OSError as error:
                    _log.error("http2_accept_failed", reason=error.strerror)
                    await asyncio.sleep(_NO_FILES_S)
                    continue
                if len(self._handshakes) >= self._limits.max_handshakes:
                    next(iter(self._handshakes)).cancel()
                task = asyncio.create_task(self._shake_hands(accepted, tls))
                self._handshakes[task] = None
                task.add_done_callback(self._handshakes.pop)

    async def _shake_hands(self, accepted: socket.socket, tls: ssl.SSLContext) -> None:
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):  # the peer speaks no TLS, has no certificate, or is too slow
            await asyncio.get_running_loop().connect_accepted_socket(
                self._connection,
                accepted,
                ssl=tls,
                ssl_handshake_timeout=self._limits.header_timeout,
                ssl_shutdown_timeout=_GOODBYE_S,
            )

    def _connection(self) -> Connection:
        spread = next(self._numbers) % _SPREAD_STEPS / (8 * _SPREAD_STEPS)
        return Connection(self._shared, admit=self._admit, left=self._left, spread=spread)

    def _admit(self, connection: Connection) -> bool:
        """Take *connection* in, if necessary in the place of connections that have been idle for the longest time."""
        most = self._limits.max_connections
        if len(self._connections) >= most:
            idle = [(one.idle_since, id(one), one) for one in self._connections if one.idle_since is not None]
            for _, _, one in heapq.nsmallest(1 + most // 20, idle):
                self._connections.discard(one)
                self._evicted.add(one)
                one.fail(ErrorCode.NO_ERROR, "The server has too many connections.")
        admitted = len(self._connections) < most
        self._connections.add(connection)
        return admitted

    def _left(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._evicted.discard(connection)
        if not self._connections:
            self._empty.set()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_EVERY_S)
            now = self._shared.steady()
            for connection in [*self._connections, *self._evicted]:
                try:
                    connection.expire(now)
                except Exception as error:  # noqa: BLE001 - the fault of one connection must not end all time-outs
                    fault = fault_of(error)
                    _log.error("http2_fault", fault=fault.kind, at=fault.at)
                    connection.abort()
