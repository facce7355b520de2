"""A pool of child processes that are restarted, replaced and drained."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from typing import Final

import structlog

from mendel.adapters.processes.child_processes import Child
from mendel.adapters.processes.worker_messages import Message, Status
from mendel.resilience import RetryPolicy, TryAgain, decide_retry

_log = structlog.get_logger("mendel.workers")
_RETRY: Final = RetryPolicy(attempts=sys.maxsize, base=timedelta(milliseconds=100), cap=timedelta(seconds=10))
_STEADY: Final = timedelta(seconds=10)
_GRACE: Final = timedelta(seconds=2)
_COLD_START: Final = timedelta(seconds=2)
_HELD: Final = timedelta(seconds=30)
_SILENCE: Final = timedelta(seconds=5)
_FIRST_WORD: Final = timedelta(minutes=2)
_LOOK_EVERY: Final = timedelta(milliseconds=500)
_STARTING: Final = Status(accepting=False, ready=False, detail="starting")


@dataclass(slots=True, kw_only=True, eq=False)
class Worker:
    """
    A running worker process.

    Attributes:
        slot: The number of the worker's shared memory blocks and spool; after a crash the next worker takes over the
            slot.
        vintage: The pool's restart epoch when the worker started.
        heard: When the worker last sent a status, in seconds of the supervisor's event loop; None before the first.
        hung: Whether the pool killed the worker because its event loop hung.
        outdated: Whether the worker is to be replaced, whatever its vintage.
        stuck_since: Since when a call of a model has been stuck in the worker, in seconds of the event loop, else None.
    """

    slot: int
    vintage: int
    child: Child
    born: float
    status: Status = _STARTING
    heard: float | None = None
    hung: bool = False
    outdated: bool = False
    stuck_since: float | None = None

    def silent_since(self, now: float) -> timedelta | None:
        """Give the time without a status if it shows that the worker's event loop hangs, else None."""
        if self.heard is None:
            silence, bound = timedelta(seconds=now - self.born), _FIRST_WORD
        else:
            silence, bound = timedelta(seconds=now - self.heard), _SILENCE
        return silence if silence >= bound else None


@dataclass(slots=True, kw_only=True, eq=False)
class _Line:
    """One slot and the worker that currently uses it, if any."""

    slot: int
    worker: Worker | None = None
    crashes: int = 0
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    serving: asyncio.Event = field(default_factory=asyncio.Event)


def workers_to_open(workers: Sequence[Worker], *, closed: timedelta, held: timedelta) -> tuple[Worker, ...]:
    """
    Choose the workers that must open their doors now.

    Every ready worker opens its doors, unless a worker that is not ready has open doors: then callers of a starting
    server get 503 from every worker, and not only from some. If no worker has had open doors for 2 s, a worker that is
    not ready opens its doors: it answers every call with 503 and the reason, so that no caller waits for a load.

    Args:
        closed: For how long no worker has had open doors.
        held: For how long a ready worker has waited for a worker that is not ready; after 30 s the ready worker opens.
    """
    if any(worker.status.accepting and not worker.status.ready for worker in workers) and held < _HELD:
        return ()
    ready = tuple(worker for worker in workers if worker.status.ready and not worker.status.accepting)
    if ready or closed < _COLD_START:
        return ready
    return tuple(worker for worker in workers if worker.heard is not None)[:1]


class WorkerPool:
    """
    Keeps *size* workers running; a worker that dies is restarted after an increasing pause.

    Workers are replaced one by one: a successor on a free slot must accept requests before the old worker stops, so at
    least *size* workers serve at all times.

    A child that has sent no status for 5 s is killed, because its event loop hangs. A child sends a status once a
    second, however busy its threads are.

    Args:
        role: The name of a worker in the log.
        launch: Starts a process on a slot and sends the first message.
        heard: Called after a worker's status message or its end.
        asked: Called with a worker and a message of this worker that is not a status.
        lost: Called with a worker that has ended, before another worker uses its slot, and with the exit code; None
            instead of the code if the worker was told to end.
        drain_timeout: How long a worker may take to finish its requests before it is killed.
    """

    def __init__(
        self,
        role: str,
        size: int,
        *,
        launch: Callable[[int], Awaitable[Child]],
        heard: Callable[[], None],
        asked: Callable[[Worker, Message], None] = lambda _worker, _message: None,
        lost: Callable[[Worker, int | None], None],
        drain_timeout: timedelta,
        rng: random.Random,
    ) -> None:
        self._role = role
        self._size = size
        self._launch = launch
        self._heard = heard
        self._asked = asked
        self._lost = lost
        self._patience = (drain_timeout + _GRACE).total_seconds()
        self._rng = rng
        self._lines: dict[int, _Line] = {}
        self._vintage = 0
        self._outdated = asyncio.Event()
        self._closed = asyncio.Event()

    @property
    def workers(self) -> tuple[Worker, ...]:
        """All running workers, including those that are stopping."""
        return tuple(line.worker for line in self._lines.values() if line.worker is not None)

    async def run(self) -> None:
        """Run the workers until :meth:`drain` or :meth:`kill`; returns when the last worker has ended."""
        async with asyncio.TaskGroup() as keeping:
            for slot in range(self._size):
                self._open_line(slot, keeping)
            jobs = [keeping.create_task(job) for job in (self._replace_when_told(keeping), self._kill_silent())]
            await self._closed.wait()
            for job in jobs:
                job.cancel()

    def renew(self, vintage: int) -> None:
        """Replace every worker that started before restart epoch *vintage*."""
        if vintage > self._vintage:
            self._vintage = vintage
            self._outdated.set()

    def replace(self, worker: Worker) -> None:
        """Replace *worker*: a successor serves first, then the worker finishes its other requests and ends."""
        worker.outdated = True
        self._outdated.set()

    def keep_no_longer(self) -> None:
        """Start no worker again from now on; the workers that run go on."""
        for line in self._lines.values():
            line.ending.set()

    async def drain(self) -> None:
        """Stop all workers and wait until they have finished their requests."""
        self._closed.set()
        await asyncio.gather(*(self._retire(line) for line in tuple(self._lines.values())))

    def kill(self) -> None:
        self._closed.set()
        for line in self._lines.values():
            line.ending.set()
            if line.worker is not None:
                line.worker.child.signal(signal.SIGKILL)

    def _open_line(self, slot: int, keeping: asyncio.TaskGroup) -> _Line:
        line = self._lines[slot] = _Line(slot=slot)
        keeping.create_task(self._keep(line))
        return line

    async def _keep(self, line: _Line) -> None:
        while not line.ending.is_set():
            worker = line.worker = await self._start(line)
            if line.ending.is_set():
                worker.child.signal(signal.SIGTERM)
            await self._attend(line, worker)
            if not line.ending.is_set():
                await self._pause_after_crash(line, worker)
        del self._lines[line.slot]

    async def _start(self, line: _Line) -> Worker:
        vintage = self._vintage
        child = await self._launch(line.slot)
        _log.info(f"{self._role}_started", slot=line.slot, pid=child.pid)
        return Worker(slot=line.slot, vintage=vintage, child=child, born=asyncio.get_running_loop().time())

    async def _attend(self, line: _Line, worker: Worker) -> None:
        async for message in worker.child.messages():
            if isinstance(message, Status):
                worker.status = message
                worker.heard = asyncio.get_running_loop().time()
                if message.accepting:
                    line.serving.set()
                self._heard()
            else:
                self._asked(worker, message)
        code = await worker.child.ended()
        line.worker = None
        line.serving.clear()
        self._lost(worker, None if line.ending.is_set() else code)
        log = _log.info if line.ending.is_set() else _log.error
        log(f"{self._role}_ended", slot=line.slot, pid=worker.child.pid, exit_code=code)
        self._heard()

    async def _pause_after_crash(self, line: _Line, worker: Worker) -> None:
        age = asyncio.get_running_loop().time() - worker.born
        line.crashes = 1 if age >= _STEADY.total_seconds() else line.crashes + 1
        decision = decide_retry(_RETRY, line.crashes, self._rng)
        if isinstance(decision, TryAgain):
            await _wait(line.ending, decision.after.total_seconds())

    async def _kill_silent(self) -> None:
        """Kill workers whose event loop hangs; time in which this process itself was suspended is not counted."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(_LOOK_EVERY.total_seconds())
            slept, last = loop.time() - last, loop.time()
            for line in self._lines.values():
                worker = line.worker
                if worker is None or line.ending.is_set():
                    continue
                if slept > 2 * _LOOK_EVERY.total_seconds():
                    worker.born += slept
                    worker.heard = None if worker.heard is None else worker.heard + slept
                silence = worker.silent_since(last)
                if silence is not None:
                    reason = f"its event loop has not run for {silence.total_seconds():.0f} s"
                    _log.error(f"{self._role}_killed", slot=line.slot, pid=worker.child.pid, reason=reason)
                    worker.hung = True
                    worker.child.signal(signal.SIGKILL)

    async def _replace_when_told(self, keeping: asyncio.TaskGroup) -> None:
        while True:
            await self._outdated.wait()
            self._outdated.clear()
            while (old := self._outdated_line()) is not None:
                slot = next(slot for slot in count() if slot not in self._lines)
                successor = self._open_line(slot, keeping)
                await successor.serving.wait()
                await self._retire(old)

    def _outdated_line(self) -> _Line | None:
        if self._closed.is_set():
            return None
        lines = sorted(self._lines.values(), key=lambda line: line.slot)
        return next((line for line in lines if line.worker and self._is_outdated(line.worker)), None)

    def _is_outdated(self, worker: Worker) -> bool:
        return worker.outdated or worker.vintage < self._vintage

    async def _retire(self, line: _Line) -> None:
        line.ending.set()
        if line.worker is None:
            return
        worker = line.worker
        worker.child.signal(signal.SIGTERM)
        if not await _wait(worker.child.gone, self._patience):
            _log.error(
                f"{self._role}_killed",
                slot=line.slot,
                pid=worker.child.pid,
                reason="the worker did not finish its requests in time",
            )
            worker.child.signal(signal.SIGKILL)
            await worker.child.gone.wait()


async def _wait(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True
