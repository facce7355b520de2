"""The bulkhead: a limit on the running and waiting calls of one model, so that a slow model cannot starve another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta

from mendel.errors import InvalidValue

_NEWEST_WEIGHT = 0.2  # the weight of the newest call in the mean service time


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkheadPolicy:
    """
    The limits on the calls of one model.

    Attributes:
        max_concurrent: The number of calls that may run at once.
        max_queue: The number of further calls that may wait.
        queue_timeout: How long a call may wait.
    """

    max_concurrent: int = 64
    max_queue: int = 2048
    queue_timeout: timedelta = timedelta(seconds=30)

    def __post_init__(self) -> None:
        if self.max_concurrent < 1 or self.max_queue < 0 or self.queue_timeout < timedelta(0):
            raise InvalidValue(
                f"{self} is not a valid bulkhead policy.",
                remedy="Set max_concurrent >= 1, max_queue and queue_timeout >= 0.",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunNow:
    """The bulkhead lets the call run at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitForPlace:
    """The call waits for a free place, ``at_most`` this long; then its owner calls :meth:`Bulkhead.gave_up`."""

    at_most: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """
    The bulkhead refuses the call.

    Attributes:
        retry_after: The expected time until a place is free, estimated from the mean service time.
        reason: ``full`` when the queue is full; ``too late`` when the expected wait exceeds the deadline.
    """

    retry_after: timedelta
    reason: str


BulkheadDecision = RunNow | WaitForPlace | Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Bulkhead:
    """
    The counts of a bulkhead. The queue itself, with the order of the waiting calls, belongs to the bulkhead's owner.

    Attributes:
        service: The exponentially weighted mean run time of calls; None before the first call has ended.
    """

    policy: BulkheadPolicy
    running: int = 0
    waiting: int = 0
    service: timedelta | None = None

    def arrived(self, *, remaining: timedelta | None = None) -> tuple[Bulkhead, BulkheadDecision]:
        """
        Decide whether a new call runs, waits or is refused; give the new counts and the decision.

        Args:
            remaining: The time until the call's deadline; None when it has no deadline.
        """
        if self.running < self.policy.max_concurrent and not self.waiting:
            return replace(self, running=self.running + 1), RunNow()
        if self.waiting >= self.policy.max_queue:
            return self, Rejected(retry_after=self.expected_wait(), reason="full")
        at_most = self.policy.queue_timeout if remaining is None else min(remaining, self.policy.queue_timeout)
        expected = self.expected_wait()
        if expected > at_most:
            return self, Rejected(retry_after=expected, reason="too late")
        return replace(self, waiting=self.waiting + 1), WaitForPlace(at_most=at_most)

    def finished(self, took: timedelta) -> tuple[Bulkhead, bool]:
        """
        Record that a running call ended after *took*.

        Returns:
            The new counts, and whether the call that waits longest takes the free place: the owner must then start it.
        """
        if not self.running:
            raise InvalidValue("The bulkhead was told that a call ended, but no call is running.")
        service = took if self.service is None else self.service + _NEWEST_WEIGHT * (took - self.service)
        if self.waiting:
            return replace(self, waiting=self.waiting - 1, service=service), True
        return replace(self, running=self.running - 1, service=service), False

    def gave_up(self) -> Bulkhead:
        """Record that a waiting call stopped waiting; give the new counts."""
        if not self.waiting:
            raise InvalidValue("The bulkhead was told that a call stopped waiting, but no call is waiting.")
        return replace(self, waiting=self.waiting - 1)

    def expected_wait(self) -> timedelta:
        """
        Estimate how long a call that arrives now would wait.

            wait = mean service time * (waiting + 1) / max_concurrent
        """
        return (self.service or timedelta(0)) * (self.waiting + 1) / self.policy.max_concurrent
