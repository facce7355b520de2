"""Batches by draining the queue: while one runs, arrivals wait; the next takes what is there. No timers."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, Protocol, TypeVar

from mendel.errors import DeadlineExceeded
from mendel.serving.row_batches import Rows

R = TypeVar("R")
_SMOOTHING = 0.2
"""Weight of the newest batch in the moving average of how long one takes."""


@dataclass(slots=True, eq=False)
class PendingRequest(Generic[R]):
    """
    One request on its way through a lane.

    Times are seconds of the kernel's steady clock. ``future`` is done early when the deadline passes or the caller goes
    away; what is done is not started. ``epoch`` is what the breaker admitted it in.
    """

    rows: Rows
    door: str
    correlation_id: str
    event_micros: int | None
    arrived: float
    deadline: float
    future: asyncio.Future[R]
    epoch: int = 0
    shadow: bool = False
    started: float = 0.0


class Execute(Protocol[R]):
    """Runs one batch in a thread and gives one outcome per ticket; an exception fails them all."""

    def __call__(self, tickets: Sequence[PendingRequest[R]]) -> Sequence[R]:
        """Outcomes in the order of *tickets*."""


class Lane(Generic[R]):
    """
    The queue and the thread of one version. Only its event loop touches it.

    Args:
        execute: Called in one of *width* threads.
        done: Called on the loop with the tickets of a batch and their outcomes, or the exception of the batch, before
            anybody gets an answer.
        dropped: Called on the loop for each ticket that was done before its batch began, and so never ran.
        one_request_per_batch: No two requests share a batch.
        steady: Counts seconds; the loop's own clock is too coarse for latencies.
    """

    def __init__(
        self,
        name: str,
        *,
        execute: Execute[R],
        done: Callable[[Sequence[PendingRequest[R]], Sequence[R] | BaseException], None],
        dropped: Callable[[PendingRequest[R]], None],
        width: int,
        max_rows: int,
        loop: asyncio.AbstractEventLoop,
        steady: Callable[[], float],
        one_request_per_batch: bool = False,
    ) -> None:
        self._execute, self._done, self._dropped = execute, done, dropped
        self._width, self._max_rows, self._one_per_batch = width, max_rows, one_request_per_batch
        self._loop, self._steady = loop, steady
        self._queue: deque[PendingRequest[R]] = deque()
        self._queued_rows = 0
        self._threads = ThreadPoolExecutor(max_workers=width, thread_name_prefix=f"mendel-{name}")
        self._idle = asyncio.Event()
        self._idle.set()
        self._waking = False
        self.running = 0
        self.batch_seconds = 0.0

    @property
    def queued(self) -> int:
        """Requests that wait."""
        return len(self._queue)

    def wait_ahead(self) -> timedelta:
        """How long a request that came now would wait, going by the batches that ran."""
        queued = len(self._queue) if self._one_per_batch else self._queued_rows / self._max_rows
        batches = self.running / self._width + queued
        return timedelta(seconds=self.batch_seconds * batches)

    def submit(self, ticket: PendingRequest[R]) -> None:
        """Queue *ticket*; its future gets the outcome, or DeadlineExceeded."""
        timer = self._loop.call_later(ticket.deadline - self._steady(), _expire, ticket)
        ticket.future.add_done_callback(lambda _: timer.cancel())
        self._queue.append(ticket)
        self._queued_rows += ticket.rows.count
        self._idle.clear()
        if self.running < self._width and not self._waking:
            self._waking = True
            self._loop.call_soon(self._wake)  # after everything that this turn of the loop brings

    async def idle(self) -> None:
        """Wait until nothing is queued or running."""
        await self._idle.wait()

    def close(self) -> None:
        """Give the threads back when they are done; whoever still waits is told."""
        while self._queue:
            ticket = self._pop()
            if not ticket.future.done():
                ticket.future.set_exception(DeadlineExceeded("The version was unloaded before it could answer."))
            self._dropped(ticket)
        self._threads.shutdown(wait=False, cancel_futures=False)

    def _wake(self) -> None:
        self._waking = False
        while self.running < self._width and (batch := self._take()):
            self.running += 1
            started = self._steady()
            for ticket in batch:
                ticket.started = started
            running = self._loop.run_in_executor(self._threads, self._execute, batch)
            running.add_done_callback(lambda future, batch=batch: self._finish(batch, future))  # type: ignore[misc]
        if not self.running and not self._queue:
            self._idle.set()

    def _take(self) -> list[PendingRequest[R]]:
        """The longest run of waiting requests of one shape within the bound on rows; at least one request."""
        batch: list[PendingRequest[R]] = []
        rows, queue = 0, self._queue
        while queue:
            ticket = queue[0]
            if ticket.future.done():
                self._dropped(self._pop())
                continue
            if batch and (
                self._one_per_batch or rows + ticket.rows.count > self._max_rows or not _alike(ticket, batch[0])
            ):
                break
            rows += ticket.rows.count
            batch.append(self._pop())
        return batch

    def _pop(self) -> PendingRequest[R]:
        ticket = self._queue.popleft()
        self._queued_rows -= ticket.rows.count
        return ticket

    def _finish(self, batch: list[PendingRequest[R]], future: asyncio.Future[Sequence[R]]) -> None:
        self.running -= 1
        took = self._steady() - batch[0].started
        self.batch_seconds += (took - self.batch_seconds) * (_SMOOTHING if self.batch_seconds else 1.0)
        error = future.exception()
        outcomes = future.result() if error is None else error
        self._done(batch, outcomes)
        for place, ticket in enumerate(batch):
            if ticket.future.done():
                continue
            if isinstance(outcomes, BaseException):
                ticket.future.set_exception(outcomes)
            else:
                ticket.future.set_result(outcomes[place])
        self._wake()


def _alike(one: PendingRequest[R], other: PendingRequest[R]) -> bool:
    return one.shadow == other.shadow and (one.rows.shape is other.rows.shape or one.rows.shape == other.rows.shape)


def _expire(ticket: PendingRequest[R]) -> None:
    if not ticket.future.done():
        ticket.future.set_exception(DeadlineExceeded("The deadline passed before the model answered."))
