"""The one ZMQ proxy of a server: a ROUTER for callers, and one that hands their messages to the workers in turn."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import zmq
import zmq.asyncio

from mendel.transports.zmq.worker_rotation import CLOSED, CLOSING, WorkerRotation

_HIGH_WATER = 10_000


class ZmqProxy:
    """
    Passes messages between callers and workers while it is open.

    A message goes to a worker that has said it is ready (:mod:`mendel.transports.zmq.worker_rotation`), and to none
    that has said it closes. It waits here while no worker has an open door.

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
        self._rotation = WorkerRotation()
        self._open = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._context = zmq.asyncio.Context()
        callers, workers = self._context.socket(zmq.ROUTER), self._context.socket(zmq.ROUTER)
        host, port = self._listener.getsockname()[:2]
        try:
            callers.set(zmq.MAXMSGSIZE, self._max_message_bytes)
            callers.set(zmq.SNDHWM, _HIGH_WATER)
            callers.set(zmq.USE_FD, self._listener.detach())
            callers.bind(f"tcp://{host}:{port}")
            workers.set(zmq.ROUTER_MANDATORY, 1)
            workers.set(zmq.SNDHWM, _HIGH_WATER)
            workers.bind(self._worker_address)
        except BaseException:
            self._context.destroy(linger=0)
            raise
        self._passing = asyncio.gather(self._hand_out(callers, workers), self._hand_back(workers, callers))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._passing is None or self._context is None:
            return
        self._passing.cancel()
        await asyncio.gather(self._passing, return_exceptions=True)
        self._context.destroy(linger=0)

    async def _hand_out(self, callers: zmq.asyncio.Socket, workers: zmq.asyncio.Socket) -> None:
        while True:
            message = await callers.recv_multipart(copy=False)
            while not await self._given(workers, message):
                await self._open.wait()

    async def _given(self, workers: zmq.asyncio.Socket, message: list[Any]) -> bool:
        """Give *message* to the worker whose turn it is; a worker that is gone is forgotten, and the next gets it."""
        while (worker := self._rotation.next()) is not None:
            try:
                await workers.send_multipart([worker, *message], copy=False)
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                self._rotation.leave(worker)
            else:
                return True
        self._open.clear()
        return False

    async def _hand_back(self, workers: zmq.asyncio.Socket, callers: zmq.asyncio.Socket) -> None:
        while True:
            worker, *message = await workers.recv_multipart(copy=False)
            if len(message) > 1:
                await callers.send_multipart(message, copy=False)
            elif message:
                await self._hear(workers, worker.bytes, message[0].bytes)

    async def _hear(self, workers: zmq.asyncio.Socket, worker: bytes, word: bytes) -> None:
        if word == CLOSING:
            self._rotation.leave(worker)
            with suppress(zmq.ZMQError):  # it is gone already
                await workers.send_multipart([worker, CLOSED])
        else:
            self._rotation.hear(worker, word)
            self._open.set()
