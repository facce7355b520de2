"""Tell a loop that polls the database whether the database may have changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from mendel.durable.ports import UnitOfWork


@dataclass(slots=True)
class ChangeWatch:
    """
    Tells whether the database may have changed, without I/O.

    Args:
        unit: The unit of work whose commits are watched.
        steady: Gives the time since any fixed moment; changes of the system clock have no effect.
        longest: Another process may have changed the database after this time, whose commits are not counted.
    """

    unit: UnitOfWork
    steady: Callable[[], timedelta]
    longest: timedelta
    _seen: int | None = field(default=None, init=False)
    _told: timedelta = field(default=timedelta(0), init=False)

    def changed(self) -> bool:
        """Whether this process has committed since the last call that gave True, or ``longest`` has passed."""
        now, commits = self.steady(), self.unit.commits
        if commits == self._seen and now - self._told < self.longest:
            return False
        self._seen, self._told = commits, now
        return True
