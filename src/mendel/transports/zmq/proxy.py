"""The one ZMQ front of a server: a ROUTER for clients, a DEALER that gives messages out to the workers in turn."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

import zmq
import zmq.asyncio

_HIGH_WATER = 10_000


class ZmqFront:
    """
    Passes messages between clients and workers while it is open.

    Args:
        endpoint: Where clients connect: ``tcp://127.0.0.1:7211``; port 0 takes a free one.
        backend: Where workers connect: ``ipc:///path``.
        listener: Descriptor of a socket that is bound to *endpoint* and listens; None binds one.
        max_message_bytes: A client that sends more is disconnected.
    """

    def __init__(
        self, endpoint: str, backend: str, *, listener: int | None = None, max_message_bytes: int = 100 << 20
    ) -> None:
        self._endpoint, self._backend, self._listener = endpoint, backend, listener
        self._max_message_bytes = max_message_bytes
        self._context: zmq.asyncio.Context | None = None
        self._passing: asyncio.Future[tuple[None, None]] | None = None
        self.endpoint = endpoint

    async def __aenter__(self) -> Self:
        self._context = zmq.asyncio.Context()
        clients, workers = self._context.socket(zmq.ROUTER), self._context.socket(zmq.DEALER)
        try:
            clients.set(zmq.MAXMSGSIZE, self._max_message_bytes)
            clients.set(zmq.SNDHWM, _HIGH_WATER)
            if self._listener is not None:
                clients.set(zmq.USE_FD, self._listener)
            clients.bind(self._endpoint)
            workers.bind(self._backend)
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self.endpoint = clients.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self._passing = asyncio.gather(_pass(clients, workers), _pass(workers, clients))
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
