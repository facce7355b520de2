"""The ZMQ server of one worker: a task per message, so that a slow call blocks no other."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import structlog
import zmq
import zmq.asyncio

from mendel.errors import MendelError
from mendel.serving import Kernel
from mendel.transports.zmq.errors import error_data
from mendel.transports.zmq.message_types import Tally, Turn, method_of
from mendel.transports.zmq.messages import encoder_for, read_message
from mendel.transports.zmq.worker_rotation import CLOSED, CLOSING, NOT_READY, READY

_log = structlog.get_logger("mendel.zmq")
_HIGH_WATER = 10_000
_LINGER_MS = 1_000
_TELL_EVERY_S = 0.5
_FAREWELL_S = 2.0
_OK = "ok"
_SEND_KEY = "Send a field api_key."


class ZmqServer:
    """
    Serves *kernel* over ZMQ while it is open.

    It tells the proxy whether its kernel is ready. Closing it, it tells the proxy so, takes what the proxy has given it
    until then, and answers that within ``policy.drain_timeout``.

    Args:
        proxy_address: Where :class:`mendel.transports.zmq.proxy.ZmqProxy` hands out messages.
    """

    def __init__(self, kernel: Kernel, proxy_address: str) -> None:
        self._kernel, self._proxy_address = kernel, proxy_address
        self._tally = Tally()
        self._turns: set[asyncio.Task[None]] = set()
        self._context: zmq.asyncio.Context | None = None
        self._receiving: asyncio.Task[None] | None = None
        self._telling: asyncio.Task[None] | None = None
        self._socket: zmq.asyncio.Socket | None = None

    async def __aenter__(self) -> Self:
        self._context = zmq.asyncio.Context()
        self._socket = sock = self._context.socket(zmq.DEALER)
        sock.set(zmq.SNDHWM, _HIGH_WATER)
        sock.set(zmq.LINGER, _LINGER_MS)
        sock.connect(self._proxy_address)
        self._receiving = asyncio.create_task(self._receive(sock))
        self._telling = asyncio.create_task(self._tell_readiness(sock))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._receiving is None or self._telling is None or self._socket is None or self._context is None:
            return
        self._telling.cancel()
        await asyncio.gather(self._telling, return_exceptions=True)
        await self._socket.send(CLOSING)
        await asyncio.wait([self._receiving], timeout=_FAREWELL_S)
        self._receiving.cancel()
        await asyncio.gather(self._receiving, return_exceptions=True)
        if self._turns:
            await asyncio.wait(self._turns, timeout=self._kernel.policy.drain_timeout.total_seconds())
        for turn in self._turns:
            turn.cancel()
        await asyncio.gather(*self._turns, return_exceptions=True)
        self._context.destroy(linger=_LINGER_MS)

    async def _tell_readiness(self, sock: zmq.asyncio.Socket) -> None:
        """Say it again and again: a proxy that was started anew knows nobody."""
        while True:
            await sock.send(READY if self._kernel.readiness().ready else NOT_READY)
            await asyncio.sleep(_TELL_EVERY_S)

    async def _receive(self, sock: zmq.asyncio.Socket) -> None:
        """Until the proxy says that nothing more comes."""
        while True:
            *envelope, frame = await sock.recv_multipart()
            if not envelope and frame == CLOSED:
                return
            turn = asyncio.create_task(self._turn(sock, envelope, frame))
            self._turns.add(turn)
            turn.add_done_callback(self._turns.discard)

    async def _turn(self, sock: zmq.asyncio.Socket, envelope: list[bytes], frame: bytes) -> None:
        began = self._kernel.steady()
        self._tally.active += 1
        reply = _Reply()
        try:
            await self._answer(frame, reply)
            self._tally.completed += 1
        except MendelError as error:
            reply.refuse(error_data(error))
        except Exception:  # noqa: BLE001 - the door's supervisor: a fault of ours ends one message, not the socket
            _log.exception("zmq.fault", type=reply.endpoint)
            reply.refuse({"code": "internal", "message": "Internal error; see the server's log."})
        finally:
            self._tally.active -= 1
            self._tally.errors += reply.status != _OK
        document = {
            "type": reply.type,
            "message_id": reply.message_id,
            "timestamp": self._kernel.clock().timestamp(),
            "data": reply.data,
        }
        await sock.send_multipart([*envelope, encoder_for(frame)(document)])
        self._kernel.answered("ZMQ", reply.endpoint, reply.status, reply.model, self._kernel.steady() - began)

    async def _answer(self, frame: bytes, reply: _Reply) -> None:
        message = read_message(frame)
        reply.message_id = message.request_id
        method = method_of(message.type)
        reply.endpoint = method.type
        self._kernel.authorize(message.api_key, method.scope, remedy=_SEND_KEY)
        turn = Turn(kernel=self._kernel, message=message, tally=self._tally)
        try:
            reply.data = await method.answer(turn)
        finally:
            reply.model = turn.model
        reply.type, reply.status = method.reply, _OK


@dataclass(slots=True, kw_only=True)
class _Reply:
    """A reply as it becomes known; ``endpoint``, ``status`` and ``model`` are for the counts."""

    type: str = "error"
    message_id: str | int | None = None
    data: Any = field(default_factory=dict)
    endpoint: str = ""
    status: str = "cancelled"
    model: str | None = None

    def refuse(self, data: dict[str, Any]) -> None:
        self.type, self.data, self.status = "error", data, data["code"]
