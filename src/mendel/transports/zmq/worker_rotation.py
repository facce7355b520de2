"""Which worker gets the next ZMQ message, and what workers and proxy tell each other about that."""

from __future__ import annotations

from collections import deque
from typing import Final

READY: Final = b"ready"
"""From a worker, alone in a message, when its door opens and twice a second: its kernel is ready."""

NOT_READY: Final = b"not-ready"
"""From a worker, likewise: its door is open, and it answers every call with why it is not ready."""

CLOSING: Final = b"closing"
"""From a worker, once: it shall get no more messages."""

CLOSED: Final = b"closed"
"""To a worker, the answer to ``CLOSING``: it has got its last message."""


class WorkerRotation:
    """
    Workers in turn: the ready ones, and only while there are none those whose doors are open all the same.

    >>> workers = WorkerRotation()
    >>> workers.hear(b"1", READY); workers.hear(b"2", NOT_READY); workers.hear(b"3", READY)
    >>> [workers.next() for _ in range(3)]
    [b'1', b'3', b'1']
    >>> workers.leave(b"1"); workers.leave(b"3"); workers.next()
    b'2'
    """

    def __init__(self) -> None:
        self._ready: deque[bytes] = deque()
        self._not_ready: deque[bytes] = deque()

    def hear(self, worker: bytes, word: bytes) -> None:
        """Take in ``READY`` or ``NOT_READY`` of a worker; the same again changes nothing."""
        queue, other = (self._ready, self._not_ready) if word == READY else (self._not_ready, self._ready)
        if worker in other:
            other.remove(worker)
        if worker not in queue:
            queue.append(worker)

    def leave(self, worker: bytes) -> None:
        """Give the worker nothing from now on; no error when it is not known."""
        for queue in (self._ready, self._not_ready):
            if worker in queue:
                queue.remove(worker)

    def next(self) -> bytes | None:
        """Whose turn it is; None while no door is open."""
        queue = self._ready or self._not_ready
        if not queue:
            return None
        queue.rotate(-1)
        return queue[-1]
