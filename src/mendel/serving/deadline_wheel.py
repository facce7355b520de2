"""Expire many requests with one timer instead of a timer for each request."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")
TICK_S: Final = 0.01
"""Items expire at most this much later than their deadline."""
_ROUNDING_S: Final = 1e-6
"""A timer may fire so much before its tick, because times are rounded; it must not be set again for no time."""


class DeadlineWheel(Generic[T]):
    """
    Tells when the deadlines of items pass; a single timer waits for the earliest.

    Items are compared by identity. Use it on the event loop only.

    Args:
        expired: Called with the items whose deadline has passed, in any order.
        steady: A monotonic clock in seconds.
    """

    def __init__(
        self, expired: Callable[[list[T]], None], *, loop: asyncio.AbstractEventLoop, steady: Callable[[], float]
    ) -> None:
        self._expired, self._loop, self._steady = expired, loop, steady
        self._spokes: dict[int, set[T]] = {}
        self._ticks: list[int] = []
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return sum(map(len, self._spokes.values()))

    def add(self, item: T, deadline: float) -> None:
        """Expire *item* at *deadline*, a second of the clock, unless it is discarded before."""
        tick = math.ceil(deadline / TICK_S)
        spoke = self._spokes.get(tick)
        if spoke is None:
            spoke = self._spokes[tick] = set()
            heapq.heappush(self._ticks, tick)
            if self._ticks[0] == tick:
                self._wait()
        spoke.add(item)

    def discard(self, item: T, deadline: float) -> None:
        """Forget *item*, which was added with *deadline*; an item that has expired is ignored."""
        spoke = self._spokes.get(math.ceil(deadline / TICK_S))
        if spoke is not None:
            spoke.discard(item)
            if not spoke:
                spoke.clear()  # a set keeps the memory of its largest size, and there are thousands of spokes

    def close(self) -> None:
        """Forget every item."""
        self._spokes.clear()
        self._ticks.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._ticks:
            self._timer = self._loop.call_later(max(0.0, self._ticks[0] * TICK_S - self._steady()), self._turn)

    def _turn(self) -> None:
        self._timer = None
        late: list[T] = []
        now = self._steady()
        while self._ticks and self._ticks[0] * TICK_S <= now + _ROUNDING_S:
            late.extend(self._spokes.pop(heapq.heappop(self._ticks)))
        self._wait()
        if late:
            self._expired(late)
