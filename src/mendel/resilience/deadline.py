"""Deadlines: a moment after which nobody waits for the answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from mendel.values import require_utc


@dataclass(frozen=True, slots=True, order=True)
class Deadline:
    """
    The moment ``at`` which the answer is worth nothing any more; the earlier of two is the smaller.

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
        """The deadline *span* from *now*."""
        return cls(now + span)

    def remaining(self, now: datetime) -> timedelta:
        """How long there is left; zero once it has passed."""
        return max(self.at - now, timedelta(0))

    def passed(self, now: datetime) -> bool:
        """Whether it has passed; at the very moment it has."""
        return now >= self.at
