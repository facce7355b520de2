"""How often and how long Mendel tries again with a registry."""

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
    A failure that may pass; it never leaves the adapter.

    Args:
        error: What the caller hears when retry_limits ends; its ``retry_after`` is the registry's own wish.
    """

    def __init__(self, error: RegistryUnavailable) -> None:
        super().__init__(error.message)
        self.error = error


class Stopped(Exception):
    """Another part of the same work failed, or the user interrupted it."""


@dataclass(frozen=True, kw_only=True)
class RetryLimits:
    """
    The policy, and the means to wait.

    Attributes:
        longest_wait: A registry that wishes for a longer pause is not waited for.
        sleep: Waits for so many seconds.
        abandoned: Threads whose work nobody waits for any more.
    """

    policy: RetryPolicy
    longest_wait: timedelta
    sleep: Callable[[float], None]
    rng: random.Random
    abandoned: WeakSet[Thread] = field(default_factory=WeakSet)

    def retry(self, attempt: Callable[[], T]) -> T:
        """
        What *attempt* gives, as soon as it does not raise :class:`TransientError`.

        Raises:
            RegistryUnavailable: It still did after as many attempts as the policy has.
        """
        attempts = Attempts(self)
        while True:
            try:
                return attempt()
            except TransientError as transient:
                attempts.failed(transient)

    def pause(self, length: timedelta) -> None:
        """Wait, in glances, so that an interruption is noticed."""
        left = length.total_seconds()
        while left > 0:
            self.check()
            self.sleep(min(left, _GLANCE_S))
            left -= _GLANCE_S
        self.check()

    def check(self) -> None:
        """Raise :class:`Stopped` in a thread that was abandoned."""
        if current_thread() in self.abandoned:
            raise Stopped

    def abandon(self, threads: Iterable[Thread]) -> None:
        """Let *threads* end at their next piece or pause."""
        self.abandoned.update(threads)


class Attempts:
    """The attempts at one thing; those that got some way further (1 MiB) count anew."""

    def __init__(self, retry_limits: RetryLimits) -> None:
        self._retry_limits = retry_limits
        self._failures = 0
        self._reached = 0

    def failed(self, transient: TransientError, *, reached: int = 0) -> None:
        """
        Wait before the next attempt, or give up.

        Args:
            reached: How many bytes are known to have arrived in all.
        """
        if reached >= self._reached + _WORTHWHILE_BYTES:
            self._failures, self._reached = 0, reached
        self._failures += 1
        decision = decide_retry(self._retry_limits.policy, self._failures, self._retry_limits.rng)
        wish = transient.error.retry_after or timedelta(0)
        if isinstance(decision, GiveUp) or wish > self._retry_limits.longest_wait:
            raise transient.error from transient
        self._retry_limits.pause(max(decision.after, wish))
