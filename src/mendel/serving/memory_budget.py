"""Count the memory of loaded model versions against a budget, and choose idle models that make room."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from mendel.values import ModelName


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident:
    """
    A model whose versions are loaded.

    Attributes:
        size_bytes: The memory of all its loaded versions.
        unused: The time since its last request, or since it was loaded; None while it is busy or changes its versions.
    """

    model: ModelName
    size_bytes: int
    unused: timedelta | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evict:
    """Unload these models, in this order; then there is room."""

    models: tuple[ModelName, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoRoom:
    """There is no room before *retry_after*, even if no model gets a request until then."""

    retry_after: timedelta


def make_room(missing_bytes: int, residents: Iterable[Resident], *, unused_for: timedelta) -> Evict | NoRoom:
    """
    Decide which models are unloaded to free *missing_bytes*: the models that were used least recently.

    A model that is busy, or that had a request within *unused_for*, is never chosen. Two models of which each needs the
    whole budget therefore replace each other at most once per *unused_for*. If the models that may be unloaded do not
    free enough, none is unloaded.

    >>> minute = timedelta(minutes=1)
    >>> old = Resident(model=ModelName("old"), size_bytes=60, unused=5 * minute)
    >>> new = Resident(model=ModelName("new"), size_bytes=60, unused=minute / 3)
    >>> make_room(50, [new, old], unused_for=minute).models
    ('old',)
    >>> make_room(90, [new, old], unused_for=minute)
    NoRoom(retry_after=datetime.timedelta(seconds=40))
    """
    chosen: list[ModelName] = []
    idle = [(one.unused, one) for one in residents if one.unused is not None]
    for unused, one in sorted(idle, key=lambda pair: pair[0], reverse=True):
        chosen.append(one.model)
        missing_bytes -= one.size_bytes
        if missing_bytes <= 0:
            return Evict(models=tuple(chosen)) if unused >= unused_for else NoRoom(retry_after=unused_for - unused)
    return NoRoom(retry_after=unused_for)


class MemoryBudget:
    """
    The memory of all versions of one process: those that load, those that serve, and those that drain after a swap.

    Its methods may be called from several threads.

    Args:
        limit_bytes: The largest sum; None means no limit.

    >>> budget = MemoryBudget(100)
    >>> first = budget.claim(60)
    >>> budget.claim(60)
    20
    >>> first.release(); first.release(); budget.used_bytes
    0
    """

    def __init__(self, limit_bytes: int | None) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._lock = threading.Lock()

    def claim(self, size_bytes: int) -> Claim | int:
        """Give a claim on *size_bytes*, or the number of bytes that are missing."""
        with self._lock:
            if self.limit_bytes is not None and (missing := self.used_bytes + size_bytes - self.limit_bytes) > 0:
                return missing
            self.used_bytes += size_bytes
        return Claim(self, size_bytes)

    def resize(self, claim: Claim, size_bytes: int) -> int:
        """Set the size of *claim*, whatever the limit, and give the number of bytes beyond the limit."""
        with self._lock:
            self.used_bytes += size_bytes - claim.size_bytes
            claim.size_bytes = size_bytes
            return 0 if self.limit_bytes is None else max(0, self.used_bytes - self.limit_bytes)


class Claim:
    """The part of the budget that one version takes, until :meth:`release`."""

    def __init__(self, budget: MemoryBudget, size_bytes: int) -> None:
        self._budget = budget
        self.size_bytes = size_bytes

    def resize(self, size_bytes: int) -> int:
        """Set the measured size, and give the number of bytes by which the whole budget is exceeded now."""
        return self._budget.resize(self, size_bytes)

    def release(self) -> None:
        """Give the memory back; may be called twice."""
        self.resize(0)
