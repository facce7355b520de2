"""The watch that spares a polling loop its reads."""

from __future__ import annotations

from datetime import timedelta

from mendel.adapters.memory import MemoryUnitOfWork, all_stores
from mendel.durable import ChangeWatch

SECOND = timedelta(seconds=1)


class Steady:
    def __init__(self):
        self.now = SECOND

    def __call__(self):
        return self.now


def test_a_database_is_read_again_after_a_commit_or_a_rest():
    """The first question and the first after each commit say yes, others only when the longest rest is over."""
    unit, steady = MemoryUnitOfWork(all_stores()), Steady()
    watch = ChangeWatch(unit, steady, longest=3 * SECOND)
    assert [watch.changed(), watch.changed()] == [True, False]
    unit.write(lambda _: None)
    assert [watch.changed(), watch.changed()] == [True, False]
    steady.now += 3 * SECOND
    assert [watch.changed(), watch.changed()] == [True, False]
