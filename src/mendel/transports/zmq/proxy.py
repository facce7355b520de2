"""The ZMQ proxy of a server: one ROUTER socket for callers, and another that sends messages to the workers in turn."""

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
    A context manager that passes messages between callers and workers while entered.

    A message goes to the next worker that reported to be ready (:mod:`mendel.transports.zmq.worker_rotation`). Workers
    that are closing get no messages. Messages wait in the proxy while no worker is connected.

    Args:
        listener: A listening TCP socket; the proxy closes it.
        worker_address: The address to which workers connect, ``ipc:///path``.
        max_message_bytes: The largest message; a caller that sends a larger one is disconnected.
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
            while not await self._sent(workers, message):
                await self._open.wait()

    async def _sent(self, workers: zmq.asyncio.Socket, message: list[Any]) -> bool:
        """Send *message* to the next connected worker; give False when no worker is connected."""
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
            with suppress(zmq.ZMQError):  # the worker has disconnected already
                await workers.send_multipart([worker, CLOSED])
        else:
            self._rotation.hear(worker, word)
            self._open.set()
