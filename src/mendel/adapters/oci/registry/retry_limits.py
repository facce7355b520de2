"""Retry registry requests with bounded attempts and pauses."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Thread, current_thread
from typing import TypeVar
from weakref import WeakSet

from mendel.errors import RegistryUnavailable
from mendel.resilience import GiveUp, RetryPolicy, decide_retry

T = TypeVar("T")

_WORTHWHILE_BYTES = 1 << 20
_GLANCE_S = 0.25


class TransientError(Exception):
    """
    A failure that may succeed when tried again; used only inside this adapter.

    Args:
        error: The error to raise after the last attempt; its ``retry_after`` is the pause that the registry asked for,
            or None.
    """

    def __init__(self, error: RegistryUnavailable) -> None:
        super().__init__(error.message)
        self.error = error


class Stopped(Exception):
    """Raised in a transfer thread after another transfer failed or the user interrupted."""


@dataclass(frozen=True, kw_only=True)
class RetryLimits:
    """
    The retry policy and the function that waits.

    Attributes:
        longest_wait: If the registry asks for a longer pause, Mendel gives up.
        sleep: Waits for the given number of seconds.
        abandoned: Threads that must stop, because their results are no longer needed.
    """

    policy: RetryPolicy
    longest_wait: timedelta
    sleep: Callable[[float], None]
    rng: random.Random
    abandoned: WeakSet[Thread] = field(default_factory=WeakSet)

    def retry(self, attempt: Callable[[], T]) -> T:
        """
        Call *attempt* until it does not raise :class:`TransientError`, and return its result.

        Raises:
            RegistryUnavailable: All attempts of the policy failed.
        """
        attempts = Attempts(self)
        while True:
            try:
                return attempt()
            except TransientError as transient:
                attempts.failed(transient)

    def pause(self, length: timedelta) -> None:
        """Wait in steps of 0.25 s, so that an abandoned thread stops soon."""
        left = length.total_seconds()
        while left > 0:
            self.check()
            self.sleep(min(left, _GLANCE_S))
            left -= _GLANCE_S
        self.check()

    def check(self) -> None:
        """Raise :class:`Stopped` if the current thread was abandoned."""
        if current_thread() in self.abandoned:
            raise Stopped

    def abandon(self, threads: Iterable[Thread]) -> None:
        """Make *threads* stop at their next piece or pause."""
        self.abandoned.update(threads)


class Attempts:
    """Counts the failures of one operation; the count restarts after 1 MiB of progress."""

    def __init__(self, retry_limits: RetryLimits) -> None:
        self._retry_limits = retry_limits
        self._failures = 0
        self._reached = 0

    def failed(self, transient: TransientError, *, reached: int = 0) -> None:
        """
        Wait before the next attempt, or raise the error after the last attempt.

        Args:
            reached: The total number of bytes that have arrived.
        """
        if reached >= self._reached + _WORTHWHILE_BYTES:
            self._failures, self._reached = 0, reached
        self._failures += 1
        decision = decide_retry(self._retry_limits.policy, self._failures, self._retry_limits.rng)
        wish = transient.error.retry_after or timedelta(0)
        if isinstance(decision, GiveUp) or wish > self._retry_limits.longest_wait:
            raise transient.error from transient
        self._retry_limits.pause(max(decision.after, wish))
