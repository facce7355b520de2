"""Many deadlines, one timer."""

from __future__ import annotations

import asyncio
import sys
import time

from hypothesis import given
from hypothesis import strategies as st
from tests.support.waiting import until_async

from mendel.serving.deadline_wheel import TICK_S, DeadlineWheel


class Item:
    """Something with a deadline."""


class Loop:
    """An event loop whose time the test sets, with at most one timer."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timer: Timer | None = None

    def call_later(self, delay, callback):
        assert self.timer is None or self.timer.ended
        self.timer = Timer(self.now + delay, callback)
        return self.timer

    def advance(self, now: float) -> None:
        """Move the time to *now*, and fire the timers that are due."""
        self.now = now
        while self.timer is not None and not self.timer.ended and self.timer.at <= now:
            self.timer.ended = True
            self.timer.callback()


class Timer:
    """A timer of :class:`Loop`."""

    def __init__(self, at, callback) -> None:
        self.at, self.callback, self.ended = at, callback, False

    def cancel(self) -> None:
        self.ended = True


deadlines = st.lists(st.tuples(st.floats(0, 5), st.booleans()), max_size=40)


@given(deadlines, st.lists(st.floats(0, 6), max_size=20))
def test_items_expire_once_at_their_deadline(given_items, times):
    """At every moment exactly the items have expired whose deadline has passed, within a tick, and no discarded one."""
    loop = Loop()
    expired: list[Item] = []
    wheel: DeadlineWheel[Item] = DeadlineWheel(expired.extend, loop=loop, steady=lambda: loop.now)
    items = [(Item(), deadline, discarded) for deadline, discarded in given_items]
    for item, deadline, _ in items:
        wheel.add(item, deadline)
    for item, deadline, discarded in items:
        if discarded:
            wheel.discard(item, deadline)
    for now in sorted(times):
        loop.advance(now)
        gone = set(expired)
        assert len(gone) == len(expired)
        for item, deadline, discarded in items:
            if discarded or deadline > now + 1e-5:
                assert item not in gone
            elif deadline + TICK_S <= now:
                assert item in gone
    assert len(wheel) == sum(not discarded for *_, discarded in items) - len(expired)


async def test_a_wheel_turns_on_a_real_loop():
    """An item expires soon after its deadline, and one that was discarded does not."""
    expired: list[Item] = []
    wheel: DeadlineWheel[Item] = DeadlineWheel(expired.extend, loop=asyncio.get_running_loop(), steady=time.monotonic)
    now = time.monotonic()
    late, kept, discarded = Item(), Item(), Item()
    wheel.add(kept, now + 60)
    wheel.add(late, now + 0.03)
    wheel.add(discarded, now + 0.02)
    wheel.discard(discarded, now + 0.02)
    await until_async(lambda: expired)
    assert expired == [late]
    assert len(wheel) == 1
    wheel.close()
    assert not len(wheel)


def test_a_wheel_keeps_no_memory_of_items_that_were_discarded():
    """After 500 items at each of 300 times came and went, what is left is small."""
    loop = Loop()
    wheel: DeadlineWheel[Item] = DeadlineWheel(list, loop=loop, steady=lambda: loop.now)
    for tick in range(300):
        items = [Item() for _ in range(500)]
        for item in items:
            wheel.add(item, 30 + tick * TICK_S)
        for item in items:
            wheel.discard(item, 30 + tick * TICK_S)
    assert sum(map(sys.getsizeof, wheel._spokes.values())) < 300 * 1000
