"""Several transfers at a time, ended together."""

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
    What *act* gives for each of *items*, in their order, four at a time.

    The first failure (or an interruption) is raised at once; the others stop at their next piece. One that hangs on the
    network is not waited for: its thread is a daemon, so it outlives neither its timeout nor the program.
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
    """Adds up what several transfers report into one progress."""

    def __init__(self, doing: str, total: int, on_progress: OnProgress) -> None:
        self._doing = doing
        self._total = total
        self._on_progress = on_progress
        self._done: dict[str, int] = {}
        self._lock = Lock()

    def reached(self, what: str, done: int) -> None:
        """*what* stands at *done* bytes; that may be less than before."""
        with self._lock:
            self._done[what] = done
            self._tell()

    def add(self, what: str, more: int) -> None:
        """*what* came *more* bytes further."""
        with self._lock:
            self._done[what] = self._done.get(what, 0) + more
            self._tell()

    def _tell(self) -> None:
        self._on_progress(TaskProgress(doing=self._doing, done=sum(self._done.values()), total=self._total))
