"""Answer streaming gRPC calls, such as ``Watch`` and reflection, on our own HTTP/2 connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc

from mendel.serving import Kernel
from mendel.transports.grpc.call_handling import failure_of
from mendel.transports.grpc.compression import decompress
from mendel.transports.grpc.framing import INITIAL, MessageParts, framed, trailers, trailers_only
from mendel.transports.grpc.messages import MessageRefused, read_message
from mendel.transports.grpc.methods import StreamingMethod
from mendel.transports.http2.stream import Stream

_MOST_BYTES: Final = 1 << 14
_MOST_WAITING: Final = 8
"""The largest request message of a streaming call, and the most of them that wait."""
_MOST_CALLS: Final = 256
"""The most streaming calls at once, because each keeps a task and looks around while nothing happens."""
_TOO_MANY: Final = trailers_only(grpc.StatusCode.RESOURCE_EXHAUSTED, "The server has too many streaming calls.")
_STOPPING: Final = trailers(grpc.StatusCode.UNAVAILABLE, "The server is stopping.")


class StreamCalls:
    """
    The streaming calls of one server.

    A response waits until the caller has taken the one before, so that a caller who does not read costs little memory.
    """

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._tasks: dict[Stream, asyncio.Task[None]] = {}
        self._stopping = False

    def open(self, stream: Stream) -> None:
        """Begin to answer a call, or refuse it if there are too many."""
        if len(self._tasks) >= _MOST_CALLS:
            stream.sink, stream.work = _ignore, asyncio.Queue()
            stream.connection.respond_empty(stream, _TOO_MANY)
            return
        requests: asyncio.Queue[Any] = asyncio.Queue()
        parts, head = MessageParts(_MOST_BYTES), stream.request.head

        def take(part: bytes) -> None:
            try:
                for compressed, message in parts.take(part):
                    _require_room(requests)
                    content = decompress(message, head.compression, _MOST_BYTES) if compressed else message
                    requests.put_nowait(read_message(head.method.request, content))
            except MessageRefused as refused:
                stream.sink = _ignore
                requests.put_nowait(refused)

        stream.sink, stream.work = take, requests
        stream.connection.start(stream, INITIAL)
        task = self._tasks[stream] = asyncio.ensure_future(self._answer(stream, head.method, requests))
        task.add_done_callback(lambda task: self._ended(stream, task))
        if self._stopping:
            task.cancel()

    @staticmethod
    def end(stream: Stream) -> None:
        """Note that the caller sends no more messages."""
        stream.work.put_nowait(None)

    def cancel(self, stream: Stream) -> bool:
        """Stop a call that the caller gave up; gives False if *stream* is no streaming call."""
        task = self._tasks.get(stream)
        if task is not None:
            task.cancel()
        return task is not None

    def stop(self) -> None:
        """End all calls with UNAVAILABLE, because they would not end by themselves."""
        self._stopping = True
        for task in list(self._tasks.values()):
            task.cancel()

    def _ended(self, stream: Stream, task: asyncio.Task[None]) -> None:
        del self._tasks[stream]
        stream.on_room = None
        if task.cancelled():  # by the caller, who gets nothing more, or because the server stops
            stream.connection.end(stream, _STOPPING)

    async def _answer(self, stream: Stream, method: StreamingMethod, queue: asyncio.Queue[Any]) -> None:
        connection, room = stream.connection, asyncio.Event()
        stream.on_room = room.set
        status, text = grpc.StatusCode.OK, ""
        try:
            async for response in method.answers(self._kernel, _requests(queue)):
                room.clear()
                connection.send(stream, framed(response.SerializeToString()))
                if stream.pending:
                    await room.wait()
        except Exception as error:  # noqa: BLE001 - a defect of Mendel fails one call and not the server
            failure = failure_of(error, method, "")
            status, text = failure.status, failure.text
        connection.end(stream, trailers(status, text))


async def _requests(queue: asyncio.Queue[Any]) -> AsyncIterator[Any]:
    while (request := await queue.get()) is not None:
        if isinstance(request, MessageRefused):
            raise request
        yield request


def _require_room(requests: asyncio.Queue[Any]) -> None:
    if requests.qsize() >= _MOST_WAITING:
        raise MessageRefused(grpc.StatusCode.RESOURCE_EXHAUSTED, "Too many messages wait in this call.")


def _ignore(_: bytes) -> None:
    pass
