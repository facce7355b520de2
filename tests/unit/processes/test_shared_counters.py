"""Counters in shared memory."""

from mendel.adapters.processes.shared_counters import (
    CounterTotals,
    SharedCounters,
    block_path,
    bury_gauges,
    called_versions,
)
from mendel.adapters.processes.shared_memory import CELLS, Block
from mendel.serving import Series, version_ref
from mendel.serving.metrics import CALLS, series
from mendel.values import ModelName

ROWS = Series("rows", (("model", "credit"),))
ACTIVE = Series("active", gauge=True)


def test_totals_are_the_sum_of_all_workers(tmp_path):
    """What two workers count under one name reads as one sum, histograms cell by cell."""
    with SharedCounters(tmp_path, 0) as one, SharedCounters(tmp_path, 1) as two:
        one.add(one.reserve(ROWS, 3) + 1, 5)
        two.add(two.reserve(Series("other")))
        two.add(two.reserve(ROWS, 3) + 1, 2)
        two.add(two.reserve(ROWS, 3) + 2)
        assert one.totals()[ROWS] == (0, 7, 1)
        assert two.totals() == one.totals()


def test_counts_outlive_a_worker_and_gauges_do_not(tmp_path):
    """A successor counts on where its dead predecessor was; what was in flight went with it."""
    dead = SharedCounters(tmp_path, 0)
    dead.add(dead.reserve(ROWS), 3)
    dead.add(dead.reserve(ACTIVE), 2)
    with CounterTotals(tmp_path) as reader:
        assert reader.totals() == {ROWS: (3,), ACTIVE: (2,)}
        bury_gauges(tmp_path, 0)
        assert reader.totals() == {ROWS: (3,), ACTIVE: (0,)}
        with SharedCounters(tmp_path, 0) as successor:
            successor.add(successor.reserve(ROWS))
            assert reader.totals()[ROWS] == (4,)
    dead.__exit__(None, None, None)


def test_the_versions_that_a_dead_worker_was_calling_are_known(tmp_path):
    """Also a model that was loaded by path, which has no number; a call that has returned names nobody."""
    dead = SharedCounters(tmp_path, 0)
    for version, changes in (("2", (1,)), ("0", (1, 1, -1)), ("1", (1, -1))):
        cell = dead.reserve(series(CALLS, model="credit", version=version))
        for change in changes:
            dead.add(cell, change)
    assert called_versions(tmp_path, 0) == {version_ref(ModelName("credit"), number) for number in (0, 2)}
    assert called_versions(tmp_path, 1) == frozenset()
    dead.__exit__(None, None, None)


def test_a_series_without_room_counts_nowhere(tmp_path):
    """When a block is full, reserving says -1, and adding to -1 changes nothing that anybody reads."""
    with SharedCounters(tmp_path, 0) as counters:
        assert counters.reserve(Series("vast"), CELLS) == -1
        counters.add(counters.reserve(ROWS))
        counters.add(-1, 9)
        assert counters.totals() == {ROWS: (1,)}


def test_a_reader_sees_series_reserved_later(tmp_path):
    """A reader that opened the block earlier finds what was reserved since."""
    path = block_path(tmp_path, 0)
    with Block(path, writable=True) as writer, Block(path, writable=False) as reader:
        assert reader.places() == {}
        for number in range(50):
            writer.cells[writer.reserve(Series("n", (("k", str(number)),)))] = number
        found = {series.labels[0][1]: reader.cells[cell] for series, (cell, _) in reader.places().items()}
        assert found == {str(number): number for number in range(50)}
