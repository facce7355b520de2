"""The one ZMQ proxy of a server: a ROUTER for callers, a DEALER that hands messages to the workers in turn."""

from __future__ import annotations

import asyncio
import socket
from types import TracebackType
from typing import Self

import zmq
import zmq.asyncio

_HIGH_WATER = 10_000


class ZmqProxy:
    """
    Passes messages between callers and workers while it is open.

    Args:
        listener: Bound to a TCP port and listening; the proxy's from now on.
        worker_address: Where the workers connect: ``ipc:///path``.
        max_message_bytes: A caller that sends more is disconnected.
    """

    def __init__(self, listener: socket.socket, worker_address: str, *, max_message_bytes: int) -> None:
        self._listener, self._worker_address = listener, worker_address
        self._max_message_bytes = max_message_bytes
        self._context: zmq.asyncio.Context | None = None
        self._passing: asyncio.Future[tuple[None, None]] | None = None

    async def __aenter__(self) -> Self:
        self._context = zmq.asyncio.Context()
        callers, workers = self._context.socket(zmq.ROUTER), self._context.socket(zmq.DEALER)
        host, port = self._listener.getsockname()[:2]
        try:
            callers.set(zmq.MAXMSGSIZE, self._max_message_bytes)
            callers.set(zmq.SNDHWM, _HIGH_WATER)
            callers.set(zmq.USE_FD, self._listener.detach())
            callers.bind(f"tcp://{host}:{port}")
            workers.bind(self._worker_address)
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self._passing = asyncio.gather(_pass(callers, workers), _pass(workers, callers))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._passing is None or self._context is None:
            return
        self._passing.cancel()
        await asyncio.gather(self._passing, return_exceptions=True)
        self._context.destroy(linger=0)


async def _pass(source: zmq.asyncio.Socket, target: zmq.asyncio.Socket) -> None:
    while True:
        await target.send_multipart(await source.recv_multipart(copy=False), copy=False)
