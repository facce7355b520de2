"""Run several transfers in parallel threads, and stop all of them after a failure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import TypeVar

from mendel.adapters.oci.registry.retry_limits import RetryLimits
from mendel.images import OnProgress, TaskProgress

T = TypeVar("T")
R = TypeVar("R")

_WIDTH = 4
_GRACE_S = 0.5


def run_parallel(items: Sequence[T], act: Callable[[T], R], retry_limits: RetryLimits) -> list[R]:
    """
    Call *act* for every item in four threads; gives the results in the order of *items*.

    The first failure or interruption is raised at once, and the other transfers stop at their next piece. A thread that
    hangs on the network is not waited for; it is a daemon thread and ends with its timeout or with the program.
    """
    waiting: SimpleQueue[tuple[int, T]] = SimpleQueue()
    ended: SimpleQueue[tuple[int, R] | BaseException] = SimpleQueue()
    for entry in enumerate(items):
        waiting.put(entry)
    work = (waiting, ended, act, retry_limits)
    threads = [Thread(target=_work, args=work, name="transfer", daemon=True) for _ in items[:_WIDTH]]
    for thread in threads:
        thread.start()
    try:
        results = dict(_taken(ended) for _ in items)
    except BaseException:
        retry_limits.abandon(threads)
        for thread in threads:
            thread.join(_GRACE_S)
        raise
    return [results[place] for place in range(len(items))]


def _work(
    waiting: SimpleQueue[tuple[int, T]],
    ended: SimpleQueue[tuple[int, R] | BaseException],
    act: Callable[[T], R],
    retry_limits: RetryLimits,
) -> None:
    with suppress(Empty):
        while True:
            place, item = waiting.get_nowait()
            try:
                retry_limits.check()
                ended.put((place, act(item)))
            except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
                ended.put(error)
                return


def _taken(ended: SimpleQueue[tuple[int, R] | BaseException]) -> tuple[int, R]:
    outcome = ended.get()
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


class TransferProgress:
    """Sums the bytes of several transfers into one progress report."""

    def __init__(self, doing: str, total: int, on_progress: OnProgress) -> None:
        self._doing = doing
        self._total = total
        self._on_progress = on_progress
        self._done: dict[str, int] = {}
        self._lock = Lock()

    def reached(self, what: str, done: int) -> None:
        """Set the bytes done of transfer *what*; the number may decrease."""
        with self._lock:
            self._done[what] = done
            self._tell()

    def add(self, what: str, more: int) -> None:
        """Add *more* bytes to transfer *what*."""
        with self._lock:
            self._done[what] = self._done.get(what, 0) + more
            self._tell()

    def _tell(self) -> None:
        self._on_progress(TaskProgress(doing=self._doing, done=sum(self._done.values()), total=self._total))
