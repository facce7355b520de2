"""Waiting for a condition with a deadline: what tests do instead of sleeping."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(
    condition: Callable[[], T], *, within: float = 30.0, every: float = 0.02, told: Callable[[], object] = str
) -> T:
    """
    Wait for something true from *condition*, and give that.

    Args:
        condition: Asked again and again; at least once.
        within: Seconds after which the test fails.
        every: Seconds between two questions.
        told: What the failure says besides, such as the log of a process.
    """
    deadline = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it did not happen within {within:g} s: {told()}"
        time.sleep(every)
    return found


async def until_async(
    condition: Callable[[], T], *, within: float = 30.0, every: float = 0.01, told: Callable[[], object] = str
) -> T:
    """`until`, for tests whose condition comes true in the same event loop."""
    deadline = time.monotonic() + within
    while not (found := condition()):
        assert time.monotonic() < deadline, f"it did not happen within {within:g} s: {told()}"
        await asyncio.sleep(every)
    return found
