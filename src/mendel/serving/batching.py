"""Adaptive batching without timers: requests queue while a batch runs, and the next batch takes the queued requests."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, Protocol, TypeVar

from mendel.errors import DeadlineExceeded, MendelError, ModelStopped, NotReady
from mendel.serving.row_batches import Rows

R = TypeVar("R")
_SMOOTHING = 0.2
"""Weight of the newest batch in the moving average of the batch duration."""
_SOON = timedelta(seconds=1)


@dataclass(slots=True, eq=False)
class PendingRequest(Generic[R]):
    """
    One request in the queue of a :class:`Lane`.

    Times are seconds of the kernel's monotonic clock. ``future`` receives the result. If the future is done early,
    because the deadline passed or the caller disconnected, the request is not predicted. ``epoch`` is the epoch in
    which the circuit breaker admitted the request. ``shadow`` is True for a copy sent to a shadow version.
    ``called`` is when the model was last called with this request as the first of its batch.
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
    called: float = 0.0


@dataclass(slots=True, eq=False)
class _Batch(Generic[R]):
    """A batch in a thread; ``given_up`` is True when its requests were failed while the model still ran."""

    tickets: list[PendingRequest[R]]
    given_up: bool = False
    timer: asyncio.TimerHandle | None = None


class Execute(Protocol[R]):
    """Runs one batch in a thread; an exception fails every request of the batch."""

    def __call__(self, tickets: Sequence[PendingRequest[R]]) -> Sequence[R]:
        """Give one outcome per request, in the order of *tickets*."""


class Lane(Generic[R]):
    """
    The request queue and the threads of one model version. Call its methods only on the event loop *loop*.

    Args:
        name: The name of the threads in a debugger, after ``mendel-``.
        execute: Runs a batch; called in one of *width* threads.
        done: Called on the loop with the requests of a batch and their outcomes, or the exception of the batch, before
            the futures of the requests are set.
        dropped: Called on the loop for each request whose future was done before its batch began.
        width: The number of batches that may run at once.
        max_rows: The largest number of rows in a batch, unless a single request has more.
        one_request_per_batch: When True, each batch has exactly one request.
        steady: A monotonic clock in seconds, finer than the clock of the event loop.
        longest_call: The seconds after which a call of the model is given up: its requests fail with ModelStopped, and
            its thread is ``stuck`` until the call returns. None if *execute* ends such calls itself.
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
        longest_call: float | None = None,
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
        self._longest_call = longest_call
        self.stuck = 0
        self.running = 0
        self.batch_seconds = 0.0

    @property
    def queued(self) -> int:
        """The number of requests that wait for a batch."""
        return len(self._queue)

    @property
    def blocked(self) -> bool:
        """True when every thread is stuck in a call that was given up."""
        return self.stuck >= self._width

    def wait_ahead(self) -> timedelta:
        """Estimate the waiting time of a new request from the queue length and the mean duration of past batches."""
        queued = len(self._queue) if self._one_per_batch else self._queued_rows / self._max_rows
        batches = self.running / self._width + queued
        return timedelta(seconds=self.batch_seconds * batches)

    def submit(self, ticket: PendingRequest[R]) -> None:
        """Queue *ticket*; its future gets the outcome, or DeadlineExceeded when the deadline passes first."""
        timer = self._loop.call_later(ticket.deadline - self._steady(), _expire, ticket)
        ticket.future.add_done_callback(lambda _: timer.cancel())
        self._queue.append(ticket)
        self._queued_rows += ticket.rows.count
        self._idle.clear()
        if self.running < self._width and not self._waking:
            self._waking = True
            self._loop.call_soon(self._wake)  # requests that arrive in this iteration of the loop share the batch

    async def idle(self) -> None:
        """Wait until nothing is queued or running."""
        await self._idle.wait()

    def close(self) -> None:
        """Fail every queued request with DeadlineExceeded, and end the threads after the batches that run."""
        self._fail_queued(DeadlineExceeded("The model version was unloaded before this request was predicted."))
        self._threads.shutdown(wait=False, cancel_futures=False)

    def _fail_queued(self, error: MendelError) -> None:
        while self._queue:
            ticket = self._pop()
            if not ticket.future.done():
                ticket.future.set_exception(error)
            self._dropped(ticket)

    def _wake(self) -> None:
        self._waking = False
        while self.running < self._width and (tickets := self._take()):
            self.running += 1
            started = self._steady()
            for ticket in tickets:
                ticket.started = started
            batch = _Batch(tickets)
            if self._longest_call is not None:
                batch.timer = self._loop.call_later(self._longest_call, self._give_up_overdue, batch)
            running = self._loop.run_in_executor(self._threads, self._execute, tickets)
            running.add_done_callback(lambda future, batch=batch: self._finish(batch, future))  # type: ignore[misc]
        if self.running == self.stuck and not self._queue:
            self._idle.set()

    def _give_up_overdue(self, batch: _Batch[R]) -> None:
        """Fail the requests of *batch* if its present call of the model takes too long, else look again later."""
        assert self._longest_call is not None  # noqa: S101 - only then is there a timer
        called = max(batch.tickets[0].started, *(ticket.called for ticket in batch.tickets))
        left = called + self._longest_call - self._steady()
        if left > 0:
            batch.timer = self._loop.call_later(left, self._give_up_overdue, batch)
            return
        batch.given_up = True
        self.stuck += 1
        error = ModelStopped(
            f"The model took longer than {self._longest_call:g} s.",
            remedy="Raise serving.predict_timeout, make the model faster, or set serving.backend to process.",
        )
        self._settle(batch.tickets, error)
        if self.blocked:
            self._fail_queued(NotReady("Every thread of the model hangs in a call.", retry_after=_SOON))
        if self.running == self.stuck and not self._queue:
            self._idle.set()

    def _take(self) -> list[PendingRequest[R]]:
        """Remove from the queue the next requests that share one shape and fit into ``max_rows``; at least one."""
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

    def _finish(self, batch: _Batch[R], future: asyncio.Future[Sequence[R]]) -> None:
        self.running -= 1
        if batch.timer is not None:
            batch.timer.cancel()
        if batch.given_up:
            self.stuck -= 1
            future.exception()  # retrieved: its requests have failed already
        else:
            took = self._steady() - batch.tickets[0].started
            self.batch_seconds += (took - self.batch_seconds) * (_SMOOTHING if self.batch_seconds else 1.0)
            error = future.exception()
            self._settle(batch.tickets, future.result() if error is None else error)
        self._wake()

    def _settle(self, tickets: list[PendingRequest[R]], outcomes: Sequence[R] | BaseException) -> None:
        self._done(tickets, outcomes)
        for place, ticket in enumerate(tickets):
            if ticket.future.done():
                continue
            if isinstance(outcomes, BaseException):
                ticket.future.set_exception(outcomes)
            else:
                ticket.future.set_result(outcomes[place])


def _alike(one: PendingRequest[R], other: PendingRequest[R]) -> bool:
    return one.shadow == other.shadow and (one.rows.shape is other.rows.shape or one.rows.shape == other.rows.shape)


def _expire(ticket: PendingRequest[R]) -> None:
    if not ticket.future.done():
        ticket.future.set_exception(DeadlineExceeded("The deadline passed before the model answered."))
