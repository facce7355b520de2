"""Run the background jobs of a hub, each in its own thread at a fixed interval."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import TracebackType
from typing import Self

import structlog

from mendel.durable import Clock
from mendel.errors import Fenced, MendelError

_log = structlog.get_logger("mendel.hub.jobs")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackgroundJob:
    """
    A function that a hub calls repeatedly, with a pause of ``every`` between calls.

    A call that runs when the hub ends is awaited for at most ``ends_within``; then the end of the process interrupts
    the call.
    """

    name: str
    every: timedelta
    act: Callable[[], object]
    ends_within: timedelta = timedelta(seconds=30)


@dataclass(slots=True, kw_only=True)
class JobState:
    """
    The history of a background job since the hub started.

    ``failures`` counts consecutive failures, ``failed_in_all`` all failures. ``last_success`` is None before the first
    success.
    """

    runs: int = 0
    failures: int = 0
    failed_in_all: int = 0
    last_error: str = ""
    last_success: datetime | None = None


@dataclass(slots=True)
class BackgroundJobs:
    """
    A context manager that runs *jobs* while entered.

    An exception of a job is recorded, and the job runs again after its interval. When a job raises :class:`Fenced`,
    because another hub took over the database, all jobs stop and *on_fenced* is called once.
    """

    jobs: Sequence[BackgroundJob]
    clock: Clock
    on_fenced: Callable[[], None]
    states: dict[str, JobState] = field(init=False)
    _stop: threading.Event = field(default_factory=threading.Event, init=False)
    _mutex: threading.Lock = field(default_factory=threading.Lock, init=False)
    _threads: list[threading.Thread] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.states = {job.name: JobState() for job in self.jobs}

    def __enter__(self) -> Self:
        for job in self.jobs:
            thread = threading.Thread(target=self._repeat, args=(job,), name=f"job-{job.name}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for job, thread in zip(self.jobs, self._threads, strict=True):
            thread.join(timeout=job.ends_within.total_seconds())

    def _repeat(self, job: BackgroundJob) -> None:
        while not self._stop.is_set():
            self._once(job, self.states[job.name])
            self._stop.wait(timeout=job.every.total_seconds())

    def _end(self) -> None:
        with self._mutex:
            first = not self._stop.is_set()
            self._stop.set()
        if first:
            self.on_fenced()

    def _once(self, job: BackgroundJob, state: JobState) -> None:
        try:
            job.act()
        except Fenced as error:
            state.last_error = f"Fenced: {error}"
            _log.error("fenced", job=job.name, error=str(error))
            self._end()
        except Exception as error:  # noqa: BLE001 - the supervisor of jobs: recorded, shown in /health, tried again
            state.failures += 1
            state.failed_in_all += 1
            state.last_error = f"{type(error).__name__}: {error}"
            _log.error("job_failed", job=job.name, failures=state.failures, exc_info=not _expected(error))
        else:
            state.runs += 1
            state.failures = 0
            state.last_success = self.clock()


def _expected(error: Exception) -> bool:
    return isinstance(error, MendelError)
