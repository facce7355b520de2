"""Run the REST application on asyncio protocols of our own (``serving.doors: fast``), on sockets of the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

import structlog

from mendel.resilience import fault_of
from mendel.serving import Kernel
from mendel.transports.door import Statistics
from mendel.transports.rest.application import RestApplication
from mendel.transports.rest.connection_limits import FIRST_REQUEST_S, SWEEP_EVERY_S, ConnectionLimits
from mendel.transports.rest.exchange import Exchange
from mendel.transports.rest.fast_connection import FastConnection
from mendel.transports.rest.http_messages import Response
from mendel.transports.rest.prediction_endpoint import PredictionEndpoint
from mendel.transports.rest.prediction_groups import PredictionGroups
from mendel.transports.rest.rest_policy import RestPolicy

_BACKLOG: Final = 2048
_log = structlog.get_logger("mendel.rest")


class FastRestServer:
    """
    A context manager that serves *kernel* over HTTP/1.1 while entered; the answers are those of ``RestServer``.

    The exit stops accepting, lets requests in flight finish within ``policy.drain_timeout``, and closes the sockets.

    Args:
        sockets: The listening sockets; this server closes them.
        statistics: Fetches prediction statistics from the hub; None answers ``/monitoring/stats`` with 503.

    Attributes:
        body_limit: The largest body of a request in bytes.
        draining: True once the exit has begun.
    """

    def __init__(
        self,
        kernel: Kernel,
        *,
        sockets: Sequence[socket.socket],
        policy: RestPolicy,
        statistics: Statistics | None = None,
    ) -> None:
        self._sockets = list(sockets)
        self.application = RestApplication(kernel, statistics=statistics, policy=policy)
        self.limits = ConnectionLimits.of(kernel.policy)
        self.body_limit = kernel.policy.max_body_bytes
        self.draining = False
        self._drain_timeout = kernel.policy.drain_timeout.total_seconds()
        self._connections: set[FastConnection] = set()
        self._empty = asyncio.Event()
        self._groups = PredictionGroups(self.application)
        self._tasks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []
        self._sweeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for sock in self._sockets:
            server = await loop.create_server(lambda: FastConnection(self, loop), sock=sock, backlog=_BACKLOG)
            self._servers.append(server)
        self._sweeping = asyncio.create_task(self._sweep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.draining = True
        for server in self._servers:
            server.close()
        await asyncio.sleep(FIRST_REQUEST_S)
        for connection in list(self._connections):
            connection.close_idle()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_timeout):
                while self._connections:
                    self._empty.clear()
                    await self._empty.wait()
                await asyncio.gather(*self._tasks)
        for connection in list(self._connections):
            connection.abort()
        for task in (*self._tasks, self._sweeping):
            if task is not None:
                task.cancel()

    def admit(self, connection: FastConnection) -> bool:
        """Take *connection* among the open ones, in the place of idle ones if need be; False if there is no place."""
        limits = self.limits
        if len(self._connections) >= limits.max_connections:
            for idle in limits.evicted(self._connections):
                self._connections.discard(idle)
                idle.abort()
        if len(self._connections) >= limits.max_connections:
            return False
        self._connections.add(connection)
        return True

    def leave(self, connection: FastConnection) -> None:
        """Forget *connection*, which is closed."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def prepare(self, exchange: Exchange) -> None:
        """Find the route of *exchange*, whose headers are complete, and its correlation id."""
        exchange.refusal = self.application.preflight(exchange)
        if exchange.refusal is not None:
            exchange.counted = False
            return
        exchange.correlation_id = self.application.correlation_id(exchange)
        try:
            exchange.refusal = self.application.find(exchange)
        except Exception as error:  # noqa: BLE001 - a defect of Mendel fails one request and not the connection
            exchange.refusal = self.application.failure(exchange, error)
        endpoint = None if exchange.route is None else exchange.route.endpoint
        if isinstance(endpoint, PredictionEndpoint) and b"content-encoding" not in exchange.headers:
            exchange.prediction = endpoint

    def admission(self, exchange: Exchange) -> Response | None:
        """Give the response that refuses *exchange* before its body is here; None if the body is to be read."""
        try:
            self.application.authorize(exchange)
            exchange.announced_encoding(self.body_limit)
        except Exception as error:  # noqa: BLE001 - a defect of Mendel fails one request and not the connection
            return self.application.failure(exchange, error)
        return None

    def begin(self, exchange: Exchange) -> None:
        """Answer *exchange*."""
        if not exchange.alone:
            self._groups.add(exchange)
            return
        task = asyncio.create_task(self._answer(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, exchange: Exchange) -> None:
        self._groups.finish([(exchange, await self.application.answer(exchange))])

    async def _sweep(self) -> None:
        """Close connections that take too long."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            self._expire(loop.time())

    def _expire(self, now: float) -> None:
        for connection in list(self._connections):
            try:
                connection.expire(now)
            except Exception as error:  # noqa: BLE001 - the fault of one connection must not end all time-outs
                fault = fault_of(error)
                _log.error("rest_fault", route="", fault=fault.kind, at=fault.at)
                connection.abort()
        self._relieve()

    def _relieve(self) -> None:
        """Cut the connections that keep the most memory, while all of them together keep too much."""
        kept = [(connection.kept_bytes, id(connection), connection) for connection in self._connections]
        excess = sum(size for size, _, _ in kept) - self.application.bodies.limit_bytes
        if excess <= 0:
            return
        for size, _, connection in sorted(kept, reverse=True):
            connection.abort()
            excess -= size
            if excess <= 0:
                return
