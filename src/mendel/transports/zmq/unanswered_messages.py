"""The messages that the ZMQ proxy gave to workers and that have no answer yet, and the answer when a worker died."""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mendel.errors import MendelError

MAX_SILENCE_S: Final = 5.0
"""Seconds without a report after which a worker counts as dead; a live worker reports twice a second."""

_SOON: Final = timedelta(seconds=1)
_SMALL_BYTES: Final = 1 << 16
"""Messages up to this size are never refused: heartbeats get through while large messages wait."""


class UnansweredMessages:
    """
    The unanswered messages of each worker, by serial number; a worker returns the serial number with its answer.

    Times are seconds of a monotonic clock.

    Args:
        max_bytes: The size of all unanswered messages beyond which large messages overload the server.

    >>> messages = UnansweredMessages(max_bytes=1_000_000)
    >>> messages.hear(b"1", 10.0); serial = messages.give(b"1", [b"caller", b"{}"])
    >>> messages.silent(14.0), messages.silent(15.0)
    ([], [b'1'])
    >>> messages.lose(b"1"), messages.answer(serial)
    ([[b'caller', b'{}']], False)
    >>> serial = messages.give(b"2", [b"caller", bytes(900_000)])
    >>> messages.overloads(100_000), messages.overloads(300), messages.answer(serial), messages.overloads(100_000)
    (True, False, True, False)
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes, self._bytes = max_bytes, 0
        self._serials = count()
        self._given: dict[bytes, tuple[bytes, list[Any]]] = {}
        self._heard: dict[bytes, float] = {}

    def hear(self, worker: bytes, now: float) -> None:
        """Record that *worker* reported or answered."""
        self._heard[worker] = now

    def give(self, worker: bytes, message: list[Any]) -> bytes:
        """Record that *message* is sent to *worker*; returns the serial number to send with the message."""
        serial = next(self._serials).to_bytes(8)
        self._bytes += _size(message)
        self._given[serial] = (worker, message)
        return serial

    def answer(self, serial: bytes) -> bool:
        """Record that the message *serial* was answered; returns False if the caller has already received an error."""
        given = self._given.pop(serial, None)
        self._bytes -= 0 if given is None else _size(given[1])
        return given is not None

    def overloads(self, size: int) -> bool:
        """Tell whether a further message of *size* bytes must be refused, because too many bytes wait for answers."""
        return size > _SMALL_BYTES and self._bytes + size > self._max_bytes

    def silent(self, now: float) -> list[bytes]:
        """Give the workers that have not reported or answered for 5 s."""
        return [worker for worker, heard in self._heard.items() if now - heard >= MAX_SILENCE_S]

    def forgive(self, seconds: float) -> None:
        """Extend every worker's deadline by *seconds*, in which the proxy itself did not run."""
        self._heard = {worker: heard + seconds for worker, heard in self._heard.items()}

    def lose(self, worker: bytes) -> list[list[Any]]:
        """Remove *worker*; returns its unanswered messages."""
        self._heard.pop(worker, None)
        serials = [serial for serial, (whose, _) in self._given.items() if whose == worker]
        lost = [self._given.pop(serial)[1] for serial in serials]
        self._bytes -= sum(map(_size, lost))
        return lost


def _size(message: list[Any]) -> int:
    return sum(map(len, message))


def worker_lost(frame: bytes, timestamp: float) -> bytes:
    """Give the reply to the message *frame* of a caller whose worker died or hangs."""
    from mendel.errors import InvalidInput, NotReady  # noqa: PLC0415 - a proxy that loses no worker needs no codec
    from mendel.transports.zmq.messages import read_message  # noqa: PLC0415

    try:
        message_id = read_message(frame).request_id
    except InvalidInput:
        message_id = None
    error = NotReady("The worker process that received this message stopped answering.", retry_after=_SOON)
    return _written(error, timestamp, message_id=message_id, to=frame)


def overloaded(first: bytes, timestamp: float) -> bytes:
    """Give the reply to a large message that is refused unread; *first* is its first byte."""
    from mendel.errors import Overloaded  # noqa: PLC0415

    error = Overloaded("Too many large messages wait for answers.", retry_after=_SOON)
    return _written(error, timestamp, message_id=None, to=first)


def _written(error: MendelError, timestamp: float, *, message_id: str | int | None, to: bytes) -> bytes:
    from mendel.transports.zmq.errors import error_reply  # noqa: PLC0415
    from mendel.transports.zmq.messages import write_reply  # noqa: PLC0415
    from mendel.transports.zmq.replies import Reply  # noqa: PLC0415

    reply = Reply(type="error", message_id=message_id, timestamp=timestamp, data=error_reply(error))
    return write_reply(reply, to=to)
