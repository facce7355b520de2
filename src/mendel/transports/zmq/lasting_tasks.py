"""Run tasks that must not end while a context is open; if a task ends early, the context ends with an error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Self


class LastingTasks:
    """
    A context manager whose tasks run until :meth:`stop`.

    If a task ends earlier, by an exception or a cancellation, the task that entered the context is cancelled. Leaving
    the context then raises an ExceptionGroup with the cause. A process must not continue without one of its loops.
    """

    def __init__(self) -> None:
        self._group = asyncio.TaskGroup()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = False

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        if isinstance(error, asyncio.CancelledError):
            await self._group.__aexit__(kind, error, trace)
        else:  # the group would wrap the error of the body
            await self._group.__aexit__(None, None, None)

    def start(
        self, job: Coroutine[Any, Any, None], *, may_end: Callable[[], bool] = lambda: False
    ) -> asyncio.Task[None]:
        """Run *job* in a task; *may_end* tells whether the job may return now."""
        task = self._group.create_task(self._last(job, may_end=may_end))
        self._tasks.append(task)
        return task

    def stop(self) -> None:
        """Cancel all tasks; from now on, the end of a task is not an error."""
        self._stopped = True
        for task in self._tasks:
            task.cancel()

    async def _last(self, job: Coroutine[Any, Any, None], *, may_end: Callable[[], bool]) -> None:
        try:
            await job
        except asyncio.CancelledError:
            if self._stopped:
                raise
            raise RuntimeError(f"{_name(job)} was cancelled.") from None
        if not (self._stopped or may_end()):
            raise RuntimeError(f"{_name(job)} ended.")


def _name(job: Coroutine[Any, Any, None]) -> str:
    return str(getattr(job, "__qualname__", "A task"))
