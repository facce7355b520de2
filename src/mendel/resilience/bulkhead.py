"""The bulkhead: a limit on the running and waiting calls of one model, so that a slow model cannot starve another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from mendel.errors import InvalidValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """
    The bulkhead refuses the call.

    Attributes:
        retry_after: The expected time until the call would run.
        reason: The limit that the call exceeds, as a clause of a message.
    """

    retry_after: timedelta
    reason: str


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
                f"The bulkhead settings are invalid: {self}.",
                remedy="Under resilience.bulkhead, set max_concurrent >= 1, max_queue and queue_timeout >= 0.",
            )

    def refusal(self, *, waiting: int, wait_seconds: float, remaining_seconds: float) -> Rejected | None:
        """
        Decide whether a call that arrives now is refused; None lets the call wait for its turn.

        Args:
            waiting: The number of the model's calls that wait already.
            wait_seconds: The expected time until the call would run.
            remaining_seconds: The time until the call's deadline.

        >>> BulkheadPolicy(max_queue=2).refusal(waiting=2, wait_seconds=0.0, remaining_seconds=1.0).reason
        '2 requests already wait'
        """
        if waiting >= self.max_queue:
            return Rejected(retry_after=timedelta(seconds=wait_seconds), reason=f"{waiting} requests already wait")
        if wait_seconds > remaining_seconds or wait_seconds > self.queue_timeout.total_seconds():
            return Rejected(
                retry_after=timedelta(seconds=wait_seconds), reason=f"the expected wait is {wait_seconds:.1f} s"
            )
        return None
