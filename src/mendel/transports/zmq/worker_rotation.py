"""Choose the worker for the next ZMQ message, from the readiness that the workers report to the proxy."""

from __future__ import annotations

from collections import deque
from typing import Final

READY: Final = b"ready"
"""A worker sends this message when its ZMQ server starts, and then twice a second, while its kernel is ready."""

NOT_READY: Final = b"not-ready"
"""A worker sends this message instead of ``READY`` while its kernel is not ready; it answers calls with NotReady."""

CLOSING: Final = b"closing"
"""A worker sends this message once, to get no more messages."""

STILL_CLOSING: Final = b"still-closing"
"""After ``CLOSING``, a worker sends this message twice a second while it answers its last messages."""

CLOSED: Final = b"closed"
"""The proxy answers ``CLOSING`` with this message: no further message follows."""


class WorkerRotation:
    """
    Chooses workers in turn: ready workers, or, if no worker is ready, workers that are not ready.

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
        """Record the report *word* of a worker: ``READY`` or ``NOT_READY``."""
        queue, other = (self._ready, self._not_ready) if word == READY else (self._not_ready, self._ready)
        if worker in other:
            other.remove(worker)
        if worker not in queue:
            queue.append(worker)

    def leave(self, worker: bytes) -> None:
        """Remove a worker, so that it gets no further messages; an unknown worker is ignored."""
        for queue in (self._ready, self._not_ready):
            if worker in queue:
                queue.remove(worker)

    def next(self) -> bytes | None:
        """Give the worker for the next message; None while no worker is connected."""
        queue = self._ready or self._not_ready
        if not queue:
            return None
        queue.rotate(-1)
        return queue[-1]
