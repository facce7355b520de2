"""The ZMQ server of one worker: it receives messages in bulk, predicts them together, and answers each on its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self
from uuid import uuid4

import structlog
import zmq
import zmq.asyncio

from mendel.errors import MendelError
from mendel.resilience import fault_of
from mendel.serving import Answered, InferenceAnswer, InferenceCall, Kernel
from mendel.transports.zmq.bulk_receipt import LARGE_BYTES, BulkReceipt
from mendel.transports.zmq.errors import error_reply
from mendel.transports.zmq.lasting_tasks import LastingTasks
from mendel.transports.zmq.message_types import (
    PREDICTION,
    MessageContext,
    MessageCounts,
    Method,
    method_of,
    prediction_of,
    prediction_reply,
)
from mendel.transports.zmq.messages import read_message, write_reply
from mendel.transports.zmq.replies import ErrorReply, Reply
from mendel.transports.zmq.worker_rotation import CLOSED, CLOSING, NOT_READY, READY, STILL_CLOSING
from mendel.values import Scope

_log = structlog.get_logger("mendel.zmq")
_HIGH_WATER = 10_000
_LINGER_MS = 1_000
_REPORT_EVERY_S = 0.5
_CLOSE_TIMEOUT_S = 2.0
_OK = "ok"
_ERROR = "error"
_UNKNOWN = ""
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
        self._running: set[asyncio.Task[None]] = set()
        self._answered_all = asyncio.Event()
        self._answered_all.set()
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
            for task in self._running:
                task.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)
            await self._tasks.__aexit__(kind, error, trace)
        finally:
            self._context.destroy(linger=_LINGER_MS)

    async def _close_politely(self, sock: zmq.asyncio.Socket, receiving: asyncio.Task[None]) -> None:
        """Take no more messages, and answer those that were taken."""
        await sock.send(CLOSING)
        await asyncio.wait([receiving], timeout=_CLOSE_TIMEOUT_S)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._answered_all.wait(), self._kernel.policy.drain_timeout.total_seconds())

    async def _report_readiness(self, sock: zmq.asyncio.Socket) -> None:
        """Report the readiness twice a second, because a restarted proxy does not know its workers."""
        while True:
            ready = READY if self._kernel.readiness().ready else NOT_READY
            await sock.send(STILL_CLOSING if self._closing else ready)
            await asyncio.sleep(_REPORT_EVERY_S)

    async def _receive(self, sock: zmq.asyncio.Socket) -> None:
        """Receive messages until the proxy confirms that no more messages will follow."""
        receipt = BulkReceipt(sock)
        while True:
            messages = await receipt.messages()
            closed = messages[-1] == [CLOSED]
            self._take(sock, messages[:-1] if closed else messages)
            if closed:
                return
            if len(messages[-1][-1]) > LARGE_BYTES:
                await asyncio.sleep(0)  # decode one large message per turn of the event loop

    def _take(self, sock: zmq.asyncio.Socket, messages: Sequence[list[bytes]]) -> None:
        """Answer *messages*, which have arrived together; their predictions are one group."""
        calls: list[InferenceCall] = []
        refusals: dict[tuple[str | None, Scope | None], MendelError | None] = {}
        for *envelope, frame in messages:
            message = _Message(sock, envelope, frame, self._kernel.steady())
            self._counts.active += 1
            self._answered_all.clear()
            try:
                self._begin(message, calls, refusals)
            except Exception as error:  # noqa: BLE001 - a message that cannot be read fails alone
                self._answer(message, self._refusal(error, message))
        if calls:
            self._kernel.submit_many(calls, self._predicted)

    def _begin(
        self,
        message: _Message,
        calls: list[InferenceCall],
        refusals: dict[tuple[str | None, Scope | None], MendelError | None],
    ) -> None:
        """Add the prediction that *message* asks for to *calls*, or start a task for any other message."""
        incoming = read_message(message.frame)
        message.id = incoming.request_id
        method = method_of(incoming.type)
        message.endpoint = method.type
        asked = (incoming.api_key, method.scope)
        if asked not in refusals:
            refusals[asked] = self._refused(*asked)
        if (refusal := refusals[asked]) is not None:
            raise refusal
        context = MessageContext(kernel=self._kernel, message=incoming, counts=self._counts)
        if method.answer is None:
            try:
                calls.append(prediction_of(context, message))
            finally:
                message.model = context.model
            return
        task = asyncio.create_task(self._run(message, method, context))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _refused(self, api_key: str | None, scope: Scope | None) -> MendelError | None:
        try:
            self._kernel.authorize(api_key, scope, remedy=_SEND_KEY)
        except MendelError as error:
            return error
        return None

    async def _run(self, message: _Message, method: Method, context: MessageContext) -> None:
        assert method.answer is not None  # noqa: S101 - predictions have no task
        try:
            answer: tuple[str, object] = (method.reply, await method.answer(context))
        except asyncio.CancelledError:
            self._count(message, "cancelled")
            raise
        except Exception as error:  # noqa: BLE001 - a defect of Mendel fails one message and not the socket
            answer = self._refusal(error, message)
        message.model = context.model
        self._answer(message, answer)

    def _predicted(self, answered: Sequence[Answered]) -> None:
        """Answer the messages whose predictions have ended."""
        for call, result in answered:
            message = call.caller
            assert isinstance(message, _Message)  # noqa: S101 - this door marks its calls so
            try:
                answer = self._prediction(message, result)
            except Exception as error:  # noqa: BLE001 - a model's answer of no form fails one message of the batch
                answer = self._refusal(error, message)
            self._answer(message, answer)

    def _prediction(self, message: _Message, result: InferenceAnswer | Exception) -> tuple[str, object]:
        if isinstance(result, Exception):
            return self._refusal(result, message)
        message.model = result.metadata.model
        return PREDICTION, prediction_reply(result, message)

    def _refusal(self, error: Exception, message: _Message) -> tuple[str, object]:
        """Give the type and the data of the reply for *error*; a defect of Mendel is logged."""
        if isinstance(error, MendelError):
            data = error_reply(error)
            message.status = data.code
            return _ERROR, data
        return _ERROR, _fault(error, message)

    def _answer(self, message: _Message, answer: tuple[str, object]) -> None:
        """Send the reply to *message* and count it."""
        if message.status == _UNKNOWN:
            message.status = _OK
        message.socket.send_multipart([*message.envelope, self._written(answer, message)])
        self._count(message, message.status)

    def _count(self, message: _Message, status: str) -> None:
        self._counts.active -= 1
        self._counts.completed += status == _OK
        self._counts.errors += status != _OK
        if not self._counts.active:
            self._answered_all.set()
        self._kernel.answered("ZMQ", message.endpoint, status, message.model, self._kernel.steady() - message.began)

    def _written(self, answer: tuple[str, object], message: _Message) -> bytes:
        """Encode the reply to *message*; if the answer cannot be encoded, the reply is an error of the server."""
        timestamp = self._kernel.clock().timestamp()
        reply = Reply(type=answer[0], message_id=message.id, timestamp=timestamp, data=answer[1])
        try:
            return write_reply(reply, to=message.frame)
        except Exception as error:  # noqa: BLE001 - a model's answer that no format can carry
            failed = Reply(type=_ERROR, message_id=message.id, timestamp=timestamp, data=_fault(error, message))
            return write_reply(failed, to=message.frame)


class _Message:
    """A message without a reply; what its reply and the metrics need is filled in while it is answered."""

    __slots__ = (
        "began", "endpoint", "envelope", "frame", "id", "model", "proba", "single", "socket", "status",
    )  # fmt: skip
    gone = False

    def __init__(self, sock: zmq.asyncio.Socket, envelope: list[bytes], frame: bytes, began: float) -> None:
        self.socket, self.envelope, self.frame, self.began = sock, envelope, frame, began
        self.id: str | int | None = None
        self.endpoint = ""
        self.status = _UNKNOWN
        self.model: str | None = None
        self.proba = self.single = False


def _fault(error: Exception, message: _Message) -> ErrorReply:
    """Log the type and code location of an unexpected exception, and make an error reply with the correlation id."""
    fault, correlation = fault_of(error), uuid4().hex
    _log.error("zmq_fault", type=message.endpoint, fault=fault.kind, at=fault.at, correlation_id=correlation)
    message.status = "internal"
    return ErrorReply(code=message.status, message=f"Internal error; search the server's log for {correlation}.")
