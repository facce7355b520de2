"""Several transfers at a time, ended together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Lock
from typing import TypeVar

from mendel.adapters.oci.patience import Patience
from mendel.images import OnProgress, Progress

T = TypeVar("T")
R = TypeVar("R")

_WIDTH = 4


def each_of(items: Sequence[T], act: Callable[[T], R], patience: Patience) -> list[R]:
    """
    What *act* gives for each of *items*, in their order, four at a time.

    The first failure (or an interruption) stops the others at their next piece and is raised.
    """
    try:
        with ThreadPoolExecutor(_WIDTH, thread_name_prefix="transfer") as pool:
            futures = [pool.submit(act, item) for item in items]
            try:
                for future in as_completed(futures):
                    future.result()
            except BaseException:
                patience.stopped.set()
                for future in futures:
                    future.cancel()
                raise
    finally:
        patience.stopped.clear()
    return [future.result() for future in futures]


class Tally:
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
        self._on_progress(Progress(doing=self._doing, done=sum(self._done.values()), total=self._total))
