"""The ZMQ proxy of a server: one ROUTER socket for callers, and another that sends messages to the workers in turn."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import zmq
import zmq.asyncio

from mendel.transports.socket_splice import Splice
from mendel.transports.zmq.bulk_receipt import BulkReceipt
from mendel.transports.zmq.encryption import CurveKeys
from mendel.transports.zmq.lasting_tasks import LastingTasks
from mendel.transports.zmq.message_filter import HandshakeFilter, MessageFilter
from mendel.transports.zmq.unanswered_messages import UnansweredMessages, overloaded, worker_lost
from mendel.transports.zmq.worker_rotation import CLOSED, CLOSING, STILL_CLOSING, WorkerRotation

if TYPE_CHECKING:
    from zmq.auth.asyncio import AsyncioAuthenticator

_HIGH_WATER = 10_000
_LOOK_EVERY_S = 0.5
_MESSAGES_IN_MEMORY = 4
"""So many of the largest messages may wait for answers at once; further large messages are refused."""


class ZmqProxy:
    """
    A context manager that passes messages between callers and workers while entered.

    A message goes to the next worker that reported to be ready (:mod:`mendel.transports.zmq.worker_rotation`). Workers
    that are closing get no messages. A message that is too large gets an error. Messages wait in the proxy while no
    worker is connected. When a worker dies or hangs, the callers of its messages get an error ``unavailable`` after
    5 s.

    If the proxy can no longer pass messages, the task that entered it is cancelled, and leaving it raises the cause.

    Args:
        listener: A listening TCP socket; the proxy closes it.
        worker_address: The address to which workers connect, ``ipc:///path``.
        max_message_bytes: The largest message; a larger one gets an error.
        max_connections: The largest number of callers' connections; a further one is closed at once.
        keys: Encrypts the connections of callers, and refuses callers without a known key; None leaves them open. The
            proxy cannot look into encrypted messages: a larger message then ends its connection.
        clock: Gives the seconds since 1970, for the errors that the proxy itself sends.
    """

    def __init__(
        self,
        listener: socket.socket,
        worker_address: str,
        *,
        max_message_bytes: int,
        max_connections: int,
        keys: CurveKeys | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock, self._keys = clock, keys
        self._authenticator: AsyncioAuthenticator | None = None
        self._listener, self._worker_address = listener, worker_address
        self._max_message_bytes, self._max_connections = max_message_bytes, max_connections
        self._context: zmq.asyncio.Context | None = None
        self._passing = LastingTasks()
        self._rotation = WorkerRotation()
        self._unanswered = UnansweredMessages(max_bytes=_MESSAGES_IN_MEMORY * max_message_bytes)
        self._open = asyncio.Event()
        self._splice: Splice | None = None

    async def __aenter__(self) -> Self:
        self._context = zmq.asyncio.Context()
        callers, workers = self._context.socket(zmq.ROUTER), self._context.socket(zmq.ROUTER)
        behind = f"{self._worker_address.removeprefix('ipc://')}-in"
        try:
            callers.set(zmq.MAXMSGSIZE, self._max_message_bytes)
            callers.set(zmq.SNDHWM, _HIGH_WATER)
            if self._keys is not None:
                self._authenticator = self._keys.authenticator(self._context)
                self._keys.encrypt(callers)
            callers.bind(f"ipc://{behind}")
            workers.set(zmq.ROUTER_MANDATORY, 1)
            workers.set(zmq.SNDHWM, _HIGH_WATER)
            workers.bind(self._worker_address)
            self._splice = Splice(
                self._listener, behind, make_filter=self._filter, max_connections=self._max_connections
            )
            await self._splice.open()
        except BaseException:
            self._context.destroy(linger=0)
            raise
        await self._passing.__aenter__()
        for job in (
            self._hand_out(callers, workers),
            self._hand_back(workers, callers),
            self._answer_for_the_lost(callers),
        ):
            self._passing.start(job)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._context is None:
            return
        try:
            await self._passing.__aexit__(kind, error, trace)
        finally:
            if self._splice is not None:
                self._splice.stop_accepting()
                self._splice.cut()
            if self._authenticator is not None:
                self._authenticator.stop()
            self._context.destroy(linger=0)

    def _filter(self) -> MessageFilter | HandshakeFilter:
        return MessageFilter(self._max_message_bytes) if self._keys is None else HandshakeFilter()

    async def _hand_out(self, callers: zmq.asyncio.Socket, workers: zmq.asyncio.Socket) -> None:
        receipt = BulkReceipt(callers, copy=False)
        while True:
            for message in await receipt.messages():
                if self._unanswered.overloads(sum(map(len, message))):
                    *envelope, frame = message
                    await callers.send_multipart([*envelope, overloaded(bytes(frame.buffer[:1]), self._clock())])
                    continue
                while not await self._sent(workers, message):
                    await self._open.wait()

    async def _sent(self, workers: zmq.asyncio.Socket, message: list[Any]) -> bool:
        """Send *message* to the next connected worker; returns False when no worker is connected."""
        while (worker := self._rotation.next()) is not None:
            serial = self._unanswered.give(worker, message)
            try:
                await workers.send_multipart([worker, serial, *message], copy=False)
            except zmq.ZMQError as error:
                self._unanswered.answer(serial)
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                self._rotation.leave(worker)
            else:
                return True
        self._open.clear()
        return False

    async def _hand_back(self, workers: zmq.asyncio.Socket, callers: zmq.asyncio.Socket) -> None:
        receipt = BulkReceipt(workers, copy=False)
        while True:
            for worker, *message in await receipt.messages():
                self._unanswered.hear(worker.bytes, asyncio.get_running_loop().time())
                if len(message) > 1:
                    serial, *reply = message
                    if self._unanswered.answer(serial.bytes):
                        await callers.send_multipart(reply, copy=False)
                elif message:
                    await self._hear(workers, worker.bytes, message[0].bytes)

    async def _hear(self, workers: zmq.asyncio.Socket, worker: bytes, word: bytes) -> None:
        if word == CLOSING:
            self._rotation.leave(worker)
            with suppress(zmq.ZMQError):  # the worker has disconnected already
                await workers.send_multipart([worker, CLOSED])
        elif word != STILL_CLOSING:
            self._rotation.hear(worker, word)
            self._open.set()

    async def _answer_for_the_lost(self, callers: zmq.asyncio.Socket) -> None:
        """Answer with an error for workers that stopped reporting, and send those workers no more messages."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            slept, last = loop.time() - last, loop.time()
            if slept > 2 * _LOOK_EVERY_S:
                self._unanswered.forgive(slept)
            for worker in self._unanswered.silent(last):
                self._rotation.leave(worker)
                for *envelope, frame in self._unanswered.lose(worker):
                    await callers.send_multipart([*envelope, worker_lost(frame.bytes, self._clock())])
