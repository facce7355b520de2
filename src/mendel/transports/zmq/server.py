"""The ZMQ server of one worker; each message is answered in its own task, so that a slow call does not block others."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from uuid import uuid4

import structlog
import zmq
import zmq.asyncio

from mendel.errors import MendelError
from mendel.resilience import fault_of
from mendel.serving import Kernel
from mendel.transports.zmq.errors import error_reply
from mendel.transports.zmq.lasting_tasks import LastingTasks
from mendel.transports.zmq.message_types import MessageContext, MessageCounts, method_of
from mendel.transports.zmq.messages import read_message, write_reply
from mendel.transports.zmq.replies import ErrorReply, Reply
from mendel.transports.zmq.worker_rotation import CLOSED, CLOSING, NOT_READY, READY, STILL_CLOSING

_log = structlog.get_logger("mendel.zmq")
_HIGH_WATER = 10_000
_LINGER_MS = 1_000
_LARGE_BYTES = 1 << 20
_REPORT_EVERY_S = 0.5
_CLOSE_TIMEOUT_S = 2.0
_OK = "ok"
_ERROR = "error"
_SEND_KEY = "Send a field api_key."


class ZmqServer:
    """
    A context manager that serves *kernel* over ZMQ while entered.

    The server reports to the proxy whether the kernel is ready. The exit reports to the proxy that the server closes,
    and answers the messages received until then within ``policy.drain_timeout``.

    Args:
        proxy_address: The address of the :class:`mendel.transports.zmq.proxy.ZmqProxy` for workers, ``ipc:///path``.
    """

    def __init__(self, kernel: Kernel, proxy_address: str) -> None:
        self._kernel, self._proxy_address = kernel, proxy_address
        self._counts = MessageCounts()
        self._replies: set[asyncio.Task[None]] = set()
        self._context: zmq.asyncio.Context | None = None
        self._tasks = LastingTasks()
        self._receiving: asyncio.Task[None] | None = None
        self._socket: zmq.asyncio.Socket | None = None
        self._closing = False

    async def __aenter__(self) -> Self:
        self._context = zmq.asyncio.Context()
        self._socket = sock = self._context.socket(zmq.DEALER)
        sock.set(zmq.SNDHWM, _HIGH_WATER)
        sock.set(zmq.LINGER, _LINGER_MS)
        sock.connect(self._proxy_address)
        await self._tasks.__aenter__()
        self._receiving = self._tasks.start(self._receive(sock), may_end=lambda: self._closing)
        self._tasks.start(self._report_readiness(sock))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._receiving is None or self._socket is None or self._context is None:
            return
        self._closing = True
        try:
            if not self._receiving.done():
                await self._close_politely(self._socket, self._receiving)
            for reply in self._replies:
                reply.cancel()
            await asyncio.gather(*self._replies, return_exceptions=True)
            await self._tasks.__aexit__(kind, error, trace)
        finally:
            self._context.destroy(linger=_LINGER_MS)

    async def _close_politely(self, sock: zmq.asyncio.Socket, receiving: asyncio.Task[None]) -> None:
        """Take no more messages, and answer those that were taken."""
        await sock.send(CLOSING)
        await asyncio.wait([receiving], timeout=_CLOSE_TIMEOUT_S)
        if self._replies:
            await asyncio.wait(self._replies, timeout=self._kernel.policy.drain_timeout.total_seconds())

    async def _report_readiness(self, sock: zmq.asyncio.Socket) -> None:
        """Report the readiness twice a second, because a restarted proxy does not know its workers."""
        while True:
            ready = READY if self._kernel.readiness().ready else NOT_READY
            await sock.send(STILL_CLOSING if self._closing else ready)
            await asyncio.sleep(_REPORT_EVERY_S)

    async def _receive(self, sock: zmq.asyncio.Socket) -> None:
        """Receive messages until the proxy confirms that no more messages will follow."""
        while True:
            *envelope, frame = await sock.recv_multipart()
            if not envelope and frame == CLOSED:
                return
            reply = asyncio.create_task(self._reply(sock, envelope, frame))
            self._replies.add(reply)
            reply.add_done_callback(self._replies.discard)
            if len(frame) > _LARGE_BYTES:
                await asyncio.sleep(0)  # decode one large message per turn of the event loop

    async def _reply(self, sock: zmq.asyncio.Socket, envelope: list[bytes], frame: bytes) -> None:
        began = self._kernel.steady()
        self._counts.active += 1
        call = _Call()
        try:
            written = self._written(await self._answered(frame, call), call, frame)
        finally:
            self._counts.active -= 1
            self._counts.completed += call.status == _OK
            self._counts.errors += call.status != _OK
        await sock.send_multipart([*envelope, written])
        self._kernel.answered("ZMQ", call.endpoint, call.status, call.model, self._kernel.steady() - began)

    async def _answered(self, frame: bytes, call: _Call) -> tuple[str, object]:
        """Give the type and the data of the reply to *frame*; an exception becomes an ``error`` reply."""
        try:
            answer = await self._answer(frame, call)
        except MendelError as error:
            data = error_reply(error)
            call.status = data.code
            return _ERROR, data
        except Exception as error:  # noqa: BLE001 - a defect of Mendel fails one message and not the socket
            return _ERROR, _fault(error, call)
        call.status = _OK
        return answer

    def _written(self, answer: tuple[str, object], call: _Call, frame: bytes) -> bytes:
        """Encode the reply to *frame*; if the answer cannot be encoded, the reply is an error of the server."""
        timestamp = self._kernel.clock().timestamp()
        reply = Reply(type=answer[0], message_id=call.message_id, timestamp=timestamp, data=answer[1])
        try:
            return write_reply(reply, to=frame)
        except Exception as error:  # noqa: BLE001 - a model's answer that no format can carry
            failed = Reply(type=_ERROR, message_id=call.message_id, timestamp=timestamp, data=_fault(error, call))
            return write_reply(failed, to=frame)

    async def _answer(self, frame: bytes, call: _Call) -> tuple[str, object]:
        """Give the type and the data of the reply to *frame*."""
        message = read_message(frame)
        call.message_id = message.request_id
        method = method_of(message.type)
        call.endpoint = method.type
        self._kernel.authorize(message.api_key, method.scope, remedy=_SEND_KEY)
        context = MessageContext(kernel=self._kernel, message=message, counts=self._counts)
        try:
            return method.reply, await method.answer(context)
        finally:
            call.model = context.model


@dataclass(slots=True, kw_only=True)
class _Call:
    """The facts about a message that its reply and the metrics need; filled in while the message is answered."""

    message_id: str | int | None = None
    endpoint: str = ""
    status: str = "cancelled"
    model: str | None = None


def _fault(error: Exception, call: _Call) -> ErrorReply:
    """Log the type and code location of an unexpected exception, and make an error reply with the correlation id."""
    fault, correlation = fault_of(error), uuid4().hex
    _log.error("zmq_fault", type=call.endpoint, fault=fault.kind, at=fault.at, correlation_id=correlation)
    call.status = "internal"
    return ErrorReply(code=call.status, message=f"Internal error; search the server's log for {correlation}.")
