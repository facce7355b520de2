"""The bulkhead: how much of one model may be under way and waiting, so that a slow one cannot starve another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from mendel.errors import InvalidValue

_MEMORY = 0.2  # the weight of the newest call in the mean service time


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkheadPolicy:
    """
    The width of one model.

    Attributes:
        max_concurrent: How many calls run at once.
        max_queue: How many more may wait.
        queue_timeout: How long one may wait.
    """

    max_concurrent: int = 64
    max_queue: int = 2048
    queue_timeout: timedelta = timedelta(seconds=30)

    def __post_init__(self) -> None:
        if self.max_concurrent < 1 or self.max_queue < 0 or self.queue_timeout < timedelta(0):
            raise InvalidValue(
                f"{self} is not a bulkhead policy.", remedy="max_concurrent >= 1, max_queue and queue_timeout >= 0."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Go:
    """The call runs at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """The call waits its turn, ``at_most`` this long; then it has :meth:`Bulkhead.left`."""

    at_most: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """
    The call is turned away.

    Attributes:
        retry_after: When there will be room, as far as can be told.
        reason: ``full``, or ``too late``: the wait would outlive the deadline.
    """

    retry_after: timedelta
    reason: str


Entry = Go | Wait | Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulkhead:
    """
    A bulkhead as it stands: the counts; who waits in which order is its owner's.

    Attributes:
        service: The mean time a call runs, newer ones weighing more; None before the first ended.
    """

    policy: BulkheadPolicy
    running: int = 0
    waiting: int = 0
    service: timedelta | None = None

    def arrived(self, *, patience: timedelta | None = None) -> tuple[Bulkhead, Entry]:
        """
        Let a call in, make it wait, or turn it away.

        Args:
            patience: What is left of its deadline; None where it has none.
        """
        if self.running < self.policy.max_concurrent and not self.waiting:
            return replace(self, running=self.running + 1), Go()
        if self.waiting >= self.policy.max_queue:
            return self, Rejected(retry_after=self.expected_wait(), reason="full")
        at_most = self.policy.queue_timeout if patience is None else min(patience, self.policy.queue_timeout)
        expected = self.expected_wait()
        if expected > at_most:
            return self, Rejected(retry_after=expected, reason="too late")
        return replace(self, waiting=self.waiting + 1), Wait(at_most=at_most)

    def finished(self, took: timedelta) -> tuple[Bulkhead, bool]:
        """
        A call that ran has ended.

        Returns:
            Whether its place goes to the call that waits longest, which its owner now lets run.
        """
        if not self.running:
            raise InvalidValue("A call ended that never ran.")
        service = took if self.service is None else self.service + _MEMORY * (took - self.service)
        if self.waiting:
            return replace(self, waiting=self.waiting - 1, service=service), True
        return replace(self, running=self.running - 1, service=service), False

    def left(self) -> Bulkhead:
        """A waiting call gave up."""
        if not self.waiting:
            raise InvalidValue("A call left that did not wait.")
        return replace(self, waiting=self.waiting - 1)

    def expected_wait(self) -> timedelta:
        """How long a call that came now would wait: its turn times the mean service time, over the width."""
        return (self.service or timedelta(0)) * (self.waiting + 1) / self.policy.max_concurrent
