"""Run the REST application with uvicorn (``serving.doors: standard``), on sockets of the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

import uvicorn

from mendel.serving import Kernel
from mendel.transports.door import Statistics
from mendel.transports.rest.application import RestApplication
from mendel.transports.rest.asgi import AsgiApplication
from mendel.transports.rest.connection_limits import FIRST_REQUEST_S, SWEEP_EVERY_S, ConnectionLimits
from mendel.transports.rest.limited_protocol import LimitedProtocol
from mendel.transports.rest.rest_policy import RestPolicy


class _Uvicorn(uvicorn.Server):
    """A uvicorn server that installs no signal handlers, because the worker process handles signals."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close idle connections later than uvicorn does, because their first request may be in transit."""
        for server in self.servers:
            server.close()
        await asyncio.sleep(FIRST_REQUEST_S)
        await super().shutdown(sockets)


class RestServer:
    """
    A context manager that serves *kernel* over HTTP/1.1 while entered.

    The exit stops accepting, lets requests in flight finish within ``policy.drain_timeout``, and closes the sockets.

    Args:
        sockets: The listening sockets; this server closes them.
        statistics: Fetches prediction statistics from the hub; None answers ``/monitoring/stats`` with 503.
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
        application = RestApplication(kernel, statistics=statistics, policy=policy)
        limits = ConnectionLimits.of(kernel.policy)
        config = uvicorn.Config(
            AsgiApplication(application),
            loop="none",
            http=functools.partial(LimitedProtocol, limits=limits, refused=application.count_refusal),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            backlog=2048,
            timeout_keep_alive=int(limits.idle_timeout) or 1,
            timeout_graceful_shutdown=int(kernel.policy.drain_timeout.total_seconds()),
        )
        self._server = _Uvicorn(config)
        self._serving: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._serving = asyncio.create_task(self._server.serve(sockets=self._sockets))
        while not self._server.started:
            if self._serving.done():
                await self._serving
            await asyncio.sleep(0.005)
        self._sweeping = asyncio.create_task(self._sweep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._serving is not None:
            self._server.should_exit = True
            await self._serving
        if self._sweeping is not None:
            self._sweeping.cancel()

    async def _sweep(self) -> None:
        """Close connections that take too long."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            for connection in list(self._server.server_state.connections):
                if isinstance(connection, LimitedProtocol):
                    connection.expire(loop.time())
