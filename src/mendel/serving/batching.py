"""Adaptive batching without timers: requests queue while a batch runs, and the next batch takes the queued requests."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, Protocol, TypeVar

import msgspec

from mendel.errors import DeadlineExceeded, MendelError, ModelStopped, NotReady
from mendel.serving.deadline_wheel import DeadlineWheel
from mendel.serving.entities import Answered, Caller, InferenceCall
from mendel.serving.row_batches import Rows

R = TypeVar("R")
_SMOOTHING = 0.2
"""Weight of the newest batch in the moving average of the batch duration."""
_SOON = timedelta(seconds=1)


class PendingRequest(msgspec.Struct, Generic[R], eq=False, kw_only=True):
    """
    One request in the queue of a :class:`Lane`.

    Times are seconds of the kernel's monotonic clock.

    Attributes:
        caller: Who waits; a request whose caller is gone is not predicted.
        done: Receives the answer; the lane does not read it. None for a copy that nobody waits for.
        epoch: The epoch in which the circuit breaker admitted the request.
        fallback: True when the fallback version answers.
        shadow: True for a copy that was sent to a shadow version.
        settled: True once the request has its answer or its error.
        called: When the model was last called with this request as the first of its batch.
    """

    rows: Rows
    call: InferenceCall
    arrived: float
    deadline: float
    caller: Caller | None = None
    done: Callable[[Sequence[Answered]], None] | None = None
    epoch: int = 0
    fallback: bool = False
    shadow: bool = False
    settled: bool = False
    started: float = 0.0
    called: float = 0.0

    @property
    def is_abandoned(self) -> bool:
        """True once nobody waits for the answer."""
        return self.caller is not None and self.caller.gone


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
        ran: Called on the loop with all requests of a batch and their outcomes, or the exception of the batch, before
            the outcomes are delivered.
        dropped: Called on the loop with requests that were settled, or whose caller was gone, before a batch took them.
        deliver: Called on the loop with requests and their outcomes or errors; each request is delivered once.
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
        ran: Callable[[Sequence[PendingRequest[R]], Sequence[R] | BaseException], None],
        dropped: Callable[[Sequence[PendingRequest[R]]], None],
        deliver: Callable[[Sequence[tuple[PendingRequest[R], R | BaseException]]], None],
        width: int,
        max_rows: int,
        loop: asyncio.AbstractEventLoop,
        steady: Callable[[], float],
        one_request_per_batch: bool = False,
        longest_call: float | None = None,
    ) -> None:
        self._execute, self._ran, self._dropped, self._deliver = execute, ran, dropped, deliver
        self._width, self._max_rows, self._one_per_batch = width, max_rows, one_request_per_batch
        self._loop, self._steady = loop, steady
        self._queue: deque[PendingRequest[R]] = deque()
        self._queued_rows = 0
        self._deadlines: DeadlineWheel[PendingRequest[R]] = DeadlineWheel(self._expire, loop=loop, steady=steady)
        self._threads = ThreadPoolExecutor(max_workers=width, thread_name_prefix=f"mendel-{name}")
        self._idle = asyncio.Event()
        self._idle.set()
        self._waking = self._closed = False
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

    def wait_ahead(self, requests: int = 0, rows: int = 0) -> float:
        """
        Estimate how many seconds a new request waits, from the queue length and the mean duration of past batches.

        Args:
            requests: The number of requests that will be queued before it, besides those in the queue.
            rows: The number of their rows.
        """
        queued = len(self._queue) + requests if self._one_per_batch else (self._queued_rows + rows) / self._max_rows
        batches = self.running / self._width + queued
        return self.batch_seconds * batches

    def submit(self, tickets: Sequence[PendingRequest[R]]) -> None:
        """Queue *tickets*; each is delivered with its outcome, or with DeadlineExceeded when its deadline passes."""
        for ticket in tickets:
            self._deadlines.add(ticket, ticket.deadline)
            self._queued_rows += ticket.rows.count
        self._queue.extend(tickets)
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
        self._closed = True
        if not self.running:
            self._deadlines.close()
        self._threads.shutdown(wait=False, cancel_futures=False)

    def _fail_queued(self, error: MendelError) -> None:
        tickets = list(self._queue)
        self._queue.clear()
        self._queued_rows = 0
        if tickets:
            self._hand_out(tickets, error)
            self._dropped(tickets)

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
        passed: list[PendingRequest[R]] = []
        rows, queue = 0, self._queue
        while queue:
            ticket = queue[0]
            if ticket.settled or ticket.is_abandoned:
                passed.append(self._pop())
                continue
            if batch and (
                self._one_per_batch or rows + ticket.rows.count > self._max_rows or not _alike(ticket, batch[0])
            ):
                break
            rows += ticket.rows.count
            batch.append(self._pop())
        if passed:
            self._hand_out(passed, [DeadlineExceeded("The caller left before the model answered.") for _ in passed])
            self._dropped(passed)
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
        try:
            if not batch.given_up:
                error = future.exception()
                self._settle(batch.tickets, future.result() if error is None else error)
        finally:
            self._wake()
            if self._closed and not self.running:
                self._deadlines.close()

    def _settle(self, tickets: list[PendingRequest[R]], outcomes: Sequence[R] | BaseException) -> None:
        try:
            self._ran(tickets, outcomes)
        finally:
            self._hand_out(tickets, outcomes)

    def _hand_out(
        self, tickets: Sequence[PendingRequest[R]], outcomes: Sequence[R] | Sequence[MendelError] | BaseException
    ) -> None:
        """Deliver the *outcomes* of those *tickets* that are not settled."""
        failed = isinstance(outcomes, BaseException)
        delivered: list[tuple[PendingRequest[R], R | BaseException]] = []
        for place, ticket in enumerate(tickets):
            if not ticket.settled:
                ticket.settled = True
                self._deadlines.discard(ticket, ticket.deadline)
                delivered.append((ticket, outcomes if failed else outcomes[place]))  # type: ignore[index, arg-type]
        if delivered:
            self._deliver(delivered)

    def _expire(self, tickets: Sequence[PendingRequest[R]]) -> None:
        self._hand_out(tickets, [DeadlineExceeded("The deadline passed before the model answered.") for _ in tickets])


def _alike(one: PendingRequest[R], other: PendingRequest[R]) -> bool:
    return one.shadow == other.shadow and (one.rows.shape is other.rows.shape or one.rows.shape == other.rows.shape)
