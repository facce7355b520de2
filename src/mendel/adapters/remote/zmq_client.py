"""Ask a server with the ZMQ messages of Mendel, which the coordinators before Mendel send too."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any, Final

import msgspec
import numpy as np
import orjson
import zmq

from mendel.adapters.remote.server_client import (
    Announced,
    Answer,
    Attempt,
    Busy,
    Overdue,
    Refused,
    Unreachable,
    failed,
    invalid,
    shortened,
)
from mendel.serving import PREDICT, PROBA, RemoteAddress, RemoteModel, Tensor, TensorSpec

_STEP_MS: Final = 50
_CONNECT_S: Final = 2.0
_READY: Final = frozenset({"ready", "degraded", "active", "idle", "busy", "ok"})
"""The states of a worker that answers; the coordinators before Mendel say ``active``, ``idle`` or ``busy``."""
_BUSY: Final = frozenset({"overloaded", "deadline_exceeded", "breaker_open", "unavailable"})
_DENIED: Final = frozenset({"unauthenticated", "forbidden"})


class _Reply(msgspec.Struct):
    type: str
    message_id: Any = None
    data: dict[str, Any] = {}


_read_reply = msgspec.json.Decoder(_Reply).decode


class ZmqClient:
    """
    Implements :class:`~mendel.adapters.remote.server_client.ServerClient` with kept sockets, one per running call.

    Rows are sent as objects by feature name, because these messages do not announce inputs.

    Args:
        key: Sent in the field ``api_key``; None sends none.
        most_bytes: The largest reply that is received.
    """

    def __init__(self, address: RemoteAddress, model: RemoteModel, *, key: str | None, most_bytes: int) -> None:
        self._address, self._model = address, model
        self._key = {} if key is None else {"api_key": key}
        self._most = most_bytes
        self._context = zmq.Context()
        self._mutex = threading.Lock()
        self._idle: list[zmq.Socket[bytes]] = []
        self._open: set[zmq.Socket[bytes]] = set()
        self._closed = False
        self._numbers = count(1)

    def announced(self, attempt: Attempt) -> Announced:
        """Give the outputs only; the worker must tell that it serves the model."""
        told = self._asked("discovery", {}, attempt, reply="worker_info")
        capabilities = told.get("capabilities")
        models = capabilities.get("models") if isinstance(capabilities, dict) else capabilities
        for model in models if isinstance(models, list) else []:
            name = model.get("name") if isinstance(model, dict) else model
            if name == self._model.model:
                endpoints = model.get("endpoints", []) if isinstance(model, dict) else []
                names = [PREDICT, *([PROBA] if isinstance(endpoints, list) and PROBA in endpoints else [])]
                return Announced(inputs=(), outputs=tuple(TensorSpec(name, "", (-1,)) for name in names))
        raise Refused(f"it has no model {self._model.model!r}")

    def unready(self, attempt: Attempt) -> str | None:
        told = self._asked("heartbeat", {}, attempt, reply="heartbeat_ack")
        status = str(told.get("status", "ready"))
        return None if status in _READY else f"it says that it is {status[:40]}"

    def infer(self, inputs: Sequence[Tensor], attempt: Attempt) -> Answer:
        names = [tensor.name for tensor in inputs]
        columns = [
            tensor.values.ravel().tolist() if isinstance(tensor.values, np.ndarray) else tensor.values
            for tensor in inputs
        ]
        rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
        data: dict[str, Any] = {"model_name": self._model.model, "inputs": rows}
        if self._model.version:
            data["version"] = self._model.version
        told = self._asked("inference_request", data, attempt, reply="inference_response")
        if "predictions" not in told:
            raise invalid(self._address, "has no predictions")
        return Answer(told["predictions"], told.get("probabilities"))

    def close(self) -> None:
        with self._mutex:
            self._closed = True
            idle, self._idle = self._idle, []
            self._open.difference_update(idle)
        for one in idle:
            one.close(linger=0)
        if not self._open:
            self._context.term()

    def _asked(self, kind: str, data: Mapping[str, Any], attempt: Attempt, *, reply: str) -> Mapping[str, Any]:
        number = str(next(self._numbers))
        message = {"type": kind, "client_id": "mendel", "request_id": number, "timestamp": 0, "data": data, **self._key}
        one, kept = self._socket(), False
        try:
            frame = self._exchanged(one, orjson.dumps(message), attempt)
            try:
                told = _read_reply(frame)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                raise invalid(self._address, "is not a message in JSON") from None
            if told.message_id != number:
                raise invalid(self._address, "answers another message")
            kept = True
        except zmq.ZMQError as error:
            raise attempt.ended or Unreachable(f"it cannot be reached ({error.strerror})") from None
        finally:
            self._give_back(one, keep=kept)
        if told.type == reply:
            return told.data
        code, text = str(told.data.get("code", "error")), shortened(str(told.data.get("message", "")))
        if code in _BUSY:
            raise Busy(f"it answered {code}: {text}")
        if code in _DENIED:
            raise Refused(f"it refuses the key, or wants one ({code})")
        if code == "not_found":
            raise Refused(f"it has no such model ({code}: {text})")
        raise failed(self._address, code[:40], text)

    def _exchanged(self, one: zmq.Socket[bytes], frame: bytes, attempt: Attempt) -> bytes:
        """Send *frame* and give the reply; a socket queues nothing while it has no connection."""
        wait = min(_CONNECT_S, attempt.left)
        one.sndtimeo = int(wait * 1000) + 1
        try:
            one.send(frame)
        except zmq.Again:
            raise (Overdue if wait < _CONNECT_S else Unreachable)("it cannot be reached (no connection)") from None
        while not one.poll(min(_STEP_MS, int(attempt.left * 1000) + 1)):
            pass
        return one.recv_multipart()[-1]

    def _socket(self) -> zmq.Socket[bytes]:
        with self._mutex:
            if self._closed:
                raise Unreachable("the connection was closed")
            if self._idle:
                return self._idle.pop()
            one = self._context.socket(zmq.DEALER)
            self._open.add(one)
        one.linger = 0
        one.immediate = True
        one.setsockopt(zmq.MAXMSGSIZE, self._most)
        one.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
        if ":" in self._address.host:
            one.ipv6 = True
        try:
            one.connect(f"tcp://{self._address.netloc}")
        except zmq.ZMQError as error:
            self._give_back(one, keep=False)
            raise Unreachable(f"it cannot be reached ({error.strerror})") from None
        return one

    def _give_back(self, one: zmq.Socket[bytes], *, keep: bool) -> None:
        with self._mutex:
            if keep and not self._closed:
                self._idle.append(one)
                return
            self._open.discard(one)
            last = self._closed and not self._open
        one.close(linger=0)
        if last:
            self._context.term()
