"""The ZMQ server of one worker; each message is answered in its own task, so that a slow call does not block others."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import structlog
import zmq
import zmq.asyncio

from mendel.errors import MendelError
from mendel.serving import Kernel
from mendel.transports.zmq.errors import error_reply
from mendel.transports.zmq.message_types import MessageContext, MessageCounts, method_of
from mendel.transports.zmq.messages import read_message, write_reply
from mendel.transports.zmq.replies import ErrorReply, Reply
from mendel.transports.zmq.worker_rotation import CLOSED, CLOSING, NOT_READY, READY

_log = structlog.get_logger("mendel.zmq")
_HIGH_WATER = 10_000
_LINGER_MS = 1_000
_REPORT_EVERY_S = 0.5
_CLOSE_TIMEOUT_S = 2.0
_OK = "ok"
_SEND_KEY = "Send the API key in the field 'api_key' of the message."


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
        self._receiving: asyncio.Task[None] | None = None
        self._reporting: asyncio.Task[None] | None = None
        self._socket: zmq.asyncio.Socket | None = None

    async def __aenter__(self) -> Self:
        self._context = zmq.asyncio.Context()
        self._socket = sock = self._context.socket(zmq.DEALER)
        sock.set(zmq.SNDHWM, _HIGH_WATER)
        sock.set(zmq.LINGER, _LINGER_MS)
        sock.connect(self._proxy_address)
        self._receiving = asyncio.create_task(self._receive(sock))
        self._reporting = asyncio.create_task(self._report_readiness(sock))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._receiving is None or self._reporting is None or self._socket is None or self._context is None:
            return
        self._reporting.cancel()
        await asyncio.gather(self._reporting, return_exceptions=True)
        await self._socket.send(CLOSING)
        await asyncio.wait([self._receiving], timeout=_CLOSE_TIMEOUT_S)
        self._receiving.cancel()
        await asyncio.gather(self._receiving, return_exceptions=True)
        if self._replies:
            await asyncio.wait(self._replies, timeout=self._kernel.policy.drain_timeout.total_seconds())
        for reply in self._replies:
            reply.cancel()
        await asyncio.gather(*self._replies, return_exceptions=True)
        self._context.destroy(linger=_LINGER_MS)

    async def _report_readiness(self, sock: zmq.asyncio.Socket) -> None:
        """Report the readiness twice a second, because a restarted proxy does not know its workers."""
        while True:
            await sock.send(READY if self._kernel.readiness().ready else NOT_READY)
            await asyncio.sleep(_REPORT_EVERY_S)

    async def _receive(self, sock: zmq.asyncio.Socket) -> None:
        """Receive messages until the proxy confirms that it will send no more."""
        while True:
            *envelope, frame = await sock.recv_multipart()
            if not envelope and frame == CLOSED:
                return
            reply = asyncio.create_task(self._reply(sock, envelope, frame))
            self._replies.add(reply)
            reply.add_done_callback(self._replies.discard)

    async def _reply(self, sock: zmq.asyncio.Socket, envelope: list[bytes], frame: bytes) -> None:
        began = self._kernel.steady()
        self._counts.active += 1
        call = _Call()
        reply_type, data = "error", object()
        try:
            reply_type, data = await self._answer(frame, call)
            call.status = _OK
            self._counts.completed += 1
        except MendelError as error:
            data = error_reply(error)
            call.status = data.code
        except Exception:  # noqa: BLE001 - a defect of Mendel fails one message and not the server
            _log.exception("zmq.fault", type=call.endpoint)
            data = ErrorReply(code="internal", message="Internal error; see the server's log.")
            call.status = data.code
        finally:
            self._counts.active -= 1
            self._counts.errors += call.status != _OK
        timestamp = self._kernel.clock().timestamp()
        reply = Reply(type=reply_type, message_id=call.message_id, timestamp=timestamp, data=data)
        await sock.send_multipart([*envelope, write_reply(reply, to=frame)])
        self._kernel.answered("ZMQ", call.endpoint, call.status, call.model, self._kernel.steady() - began)

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
