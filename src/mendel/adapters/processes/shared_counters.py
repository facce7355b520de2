"""Counters in shared memory: each worker writes its own block, every process reads the sum."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from mendel.adapters.processes.shared_memory import Block
from mendel.serving import Series, version_ref
from mendel.serving.metrics import CALLS
from mendel.values import ModelName, VersionRef

_PREFIX: Final = "counters-"
_SUFFIX: Final = ".block"
SUPERVISOR_SLOT: Final = -1
"""The slot of the supervisor's own counters; workers count from 0."""


class CounterTotals:
    """
    The sum of all blocks of a run directory.

    The next worker on a slot continues the block of the worker that ended, so that sums never decrease.
    """

    def __init__(self, run: Path) -> None:
        self._run = run
        self._blocks: dict[str, Block] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for block in self._blocks.values():
            block.close()

    def totals(self) -> Mapping[Series, tuple[int, ...]]:
        """The sum of every series over all processes; not atomic between series."""
        for path in self._run.glob(f"{_PREFIX}*{_SUFFIX}"):
            if path.name not in self._blocks:
                self._blocks[path.name] = Block(path, writable=False)
        sums: dict[Series, tuple[int, ...]] = {}
        for block in self._blocks.values():
            for series, (cell, width) in block.places().items():
                values = tuple(block.cells[cell : cell + width])
                before = sums.get(series)
                sums[series] = values if before is None else tuple(map(sum, zip(before, values, strict=False)))
        return sums


class SharedCounters:
    """
    Implements :class:`mendel.serving.CounterSlots` for one worker, in the block of its *slot*.

    At most one living process holds a slot.

    Args:
        run: The run directory of the server, the same for all its processes.
        slot: The slot of the worker.
    """

    def __init__(self, run: Path, slot: int) -> None:
        self._block = Block(block_path(run, slot), writable=True)
        self._block.clear_gauges()
        self._cells = self._block.cells
        self._all = CounterTotals(run)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._all.__exit__(kind, error, trace)
        self._block.clear_gauges()
        self._block.close()

    def reserve(self, series: Series, width: int = 1) -> int:
        """Reserve *width* cells for *series*; -1 if the block is full."""
        return self._block.reserve(series, width)

    def add(self, cell: int, amount: int = 1) -> None:
        self._cells[cell] += amount

    def put(self, cell: int, value: int) -> None:
        self._cells[cell] = value

    def totals(self) -> Mapping[Series, tuple[int, ...]]:
        return self._all.totals()


def block_path(run: Path, slot: int) -> Path:
    """The file of the block in which the worker of *slot* counts."""
    return run / f"{_PREFIX}{slot}{_SUFFIX}"


def called_versions(run: Path, slot: int) -> frozenset[VersionRef]:
    """Give the versions that the worker of *slot* was calling when it ended; call before :func:`bury_gauges`."""
    path = block_path(run, slot)
    if not path.exists():
        return frozenset()
    with Block(path, writable=False) as block:
        labels = [
            dict(series.labels)
            for series, (cell, _) in block.places().items()
            if series.name == CALLS.name and block.cells[cell] > 0
        ]
    return frozenset(version_ref(ModelName(one["model"]), int(one["version"])) for one in labels)


def bury_gauges(run: Path, slot: int) -> None:
    """Set the gauges of a dead worker to 0; call this only while no process uses the slot."""
    path = block_path(run, slot)
    if path.exists():
        with Block(path, writable=True) as block:
            block.clear_gauges()
