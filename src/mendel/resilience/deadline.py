"""Deadlines: the moment after which the caller no longer waits for the answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from mendel.values import require_utc


@dataclass(frozen=True, slots=True, order=True)
class Deadline:
    """
    The moment ``at`` after which the caller no longer waits for the answer; an earlier deadline is smaller.

    >>> from mendel.values import EPOCH
    >>> soon = Deadline.after(EPOCH, timedelta(seconds=2))
    >>> soon.remaining(EPOCH), soon.passed(soon.at)
    (datetime.timedelta(seconds=2), True)
    """

    at: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", require_utc(self.at))

    @classmethod
    def after(cls, now: datetime, span: timedelta) -> Deadline:
        """Give the deadline *span* after *now*."""
        return cls(now + span)

    def remaining(self, now: datetime) -> timedelta:
        """Give the time until the deadline; zero after it has passed."""
        return max(self.at - now, timedelta(0))

    def passed(self, now: datetime) -> bool:
        """Tell whether *now* is at or after the deadline."""
        return now >= self.at
