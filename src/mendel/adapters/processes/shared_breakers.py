"""
Circuit breakers that count the calls of all workers of a server, in shared memory.

Each worker counts the outcomes of its calls in its own block. The supervisor's :class:`Arbiter` feeds the counts to the
circuit breakers and writes the result for each worker to another block: phase, epoch and tickets for probe calls. Every
cell has one writer. Values that belong together share a cell, or are valid only for a stated epoch, so no locks are
needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from mendel.adapters.processes.shared_memory import SPARE, Block
from mendel.resilience import Admission, Admitted, Breaker, BreakerPhase, BreakerPolicy, CallRefused
from mendel.serving import Series, version_ref
from mendel.values import EPOCH, ModelName, VersionRef

Micros = Callable[[], int]
"""A monotonic clock in microseconds, the same for all processes of the machine."""

_NAME: Final = "breaker"
_PHASES: Final = (BreakerPhase.CLOSED, BreakerPhase.OPEN, BreakerPhase.HALF_OPEN)
_BANKS: Final = 4  # a worker keeps counts of four epochs; a bank is reused after four epoch changes
_ACTIVE, _REFUSALS, _FIRST_BANK = 0, 1, 2
_EPOCH, _GOOD, _FAULTS, _NEUTRAL, _TAKEN, _BANK_WIDTH = 0, 1, 2, 3, 4, 5
_COUNTS_WIDTH: Final = _FIRST_BANK + _BANKS * _BANK_WIDTH
_STANDING, _RETRY_AT, _TICKETS, _VERDICT_WIDTH = 0, 1, 2, 3
_TICKET_BITS: Final = 12
_TICKET_LIFE_MICROS: Final = 1_000_000
_TICKET_GRACE_MICROS: Final = 250_000  # far longer than the time between checking a ticket and using it
_SOON: Final = timedelta(milliseconds=100)
_PROBES_END: Final = timedelta(seconds=1)  # as long as a ticket lives: then another worker gets it


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """
    The counted outcomes of one worker's calls in one epoch, and ``taken``: how many probe tickets the worker used.
    """

    good: int = 0
    faults: int = 0
    neutral: int = 0
    taken: int = 0


class _Counts:
    """The cells in which one worker counts the calls of one version."""

    def __init__(self, block: Block, cell: int) -> None:
        self._cells, self._cell = block.cells, cell

    def flag(self, active: int) -> None:
        self._cells[self._cell + _ACTIVE] = active

    @property
    def active(self) -> bool:
        return bool(self._cells[self._cell + _ACTIVE])

    @property
    def refusals(self) -> int:
        return int(self._cells[self._cell + _REFUSALS])

    def refuse(self) -> None:
        self._cells[self._cell + _REFUSALS] += 1

    def bank(self, epoch: int) -> int:
        """
        Give the first cell for counts of *epoch*, reset if an older epoch used the cells; -1 if *epoch* is outdated.
        """
        at = self._cell + _FIRST_BANK + epoch % _BANKS * _BANK_WIDTH
        stands = self._cells[at + _EPOCH] - 1
        if stands > epoch:
            return -1
        if stands < epoch:
            self._cells[at + _EPOCH] = 0
            for cell in range(at + _GOOD, at + _BANK_WIDTH):
                self._cells[cell] = 0
            self._cells[at + _EPOCH] = epoch + 1
        return at

    def ends(self, epoch: int) -> Ends:
        """Read the counts of *epoch*; all 0 if none were written."""
        at = self._cell + _FIRST_BANK + epoch % _BANKS * _BANK_WIDTH
        if self._cells[at + _EPOCH] != epoch + 1:
            return Ends()
        good, faults, neutral, taken = self._cells[at + _GOOD : at + _BANK_WIDTH]
        return Ends(good=good, faults=faults, neutral=neutral, taken=taken)

    def clear(self) -> None:
        for cell in range(self._cell, self._cell + _COUNTS_WIDTH):
            self._cells[cell] = 0


class SharedBreakers:
    """Implements :class:`mendel.serving.BreakerView` for one worker; at most one running process uses a *slot*."""

    def __init__(self, run: Path, slot: int, *, micros: Micros) -> None:
        self._mine = Block(_counts_path(run, slot), writable=True)
        self._verdicts = Block(_verdicts_path(run, slot), writable=False)
        self._micros = micros
        self._counts: dict[VersionRef, _Counts] = {}
        self._verdict_cells: dict[VersionRef, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for counts in self._counts.values():
            counts.flag(0)
        self._mine.close()
        self._verdicts.close()

    def admit(self, version: VersionRef) -> Admission:
        counts = self._counts_of(version)
        cell = self._verdict_cell(version)
        if cell < 0:
            return Admitted(epoch=0, probe=False)
        cells = self._verdicts.cells
        standing = cells[cell + _STANDING]
        epoch, phase = divmod(standing, len(_PHASES))
        if _PHASES[phase] is BreakerPhase.CLOSED:
            return Admitted(epoch=epoch, probe=False)
        now = self._micros()
        if _PHASES[phase] is BreakerPhase.HALF_OPEN:
            until, granted = divmod(cells[cell + _TICKETS], 1 << _TICKET_BITS)
            bank = counts.bank(epoch)
            mine = self._mine.cells
            if bank >= 0 and now < until and mine[bank + _TAKEN] < granted and cells[cell + _STANDING] == standing:
                mine[bank + _TAKEN] += 1
                return Admitted(epoch=epoch, probe=True)
        counts.refuse()
        wait = timedelta(microseconds=cells[cell + _RETRY_AT] - now)
        if _PHASES[phase] is BreakerPhase.HALF_OPEN:
            wait = min(wait, _PROBES_END)
        return CallRefused(retry_after=max(_SOON, wait))

    def record(self, version: VersionRef, *, epoch: int, succeeded: int = 0, failed: int = 0, unused: int = 0) -> None:
        bank = self._counts_of(version).bank(epoch)
        if bank >= 0:
            cells = self._mine.cells
            cells[bank + _GOOD] += succeeded
            cells[bank + _FAULTS] += failed
            cells[bank + _NEUTRAL] += unused

    def keep(self, version: VersionRef) -> None:
        """Mark *version* as loaded in this worker, so that its breaker outlives the other workers."""
        self._counts_of(version)

    def phase(self, version: VersionRef) -> BreakerPhase:
        cell = self._verdict_cell(version)
        return BreakerPhase.CLOSED if cell < 0 else _PHASES[self._verdicts.cells[cell] % len(_PHASES)]

    def forget(self, version: VersionRef) -> None:
        """Mark *version* as unloaded in this worker; its breaker is reset when no worker has the version loaded."""
        counts = self._counts.pop(version, None)
        if counts is not None:
            counts.flag(0)

    def _counts_of(self, version: VersionRef) -> _Counts:
        counts = self._counts.get(version)
        if counts is None:
            cell = self._mine.reserve(_series(version), _COUNTS_WIDTH)
            counts = self._counts[version] = _Counts(self._mine, cell if cell >= 0 else SPARE)
            counts.flag(1)
        return counts

    def _verdict_cell(self, version: VersionRef) -> int:
        cell = self._verdict_cells.get(version, -1)
        if cell < 0:
            cell, _ = self._verdicts.places().get(_series(version), (-1, 0))
            self._verdict_cells[version] = cell
        return cell


@dataclass(slots=True, kw_only=True)
class _Seat:
    """
    The arbiter's record of one worker and one version in the breaker's current epoch.

    Attributes:
        seen: The counts that were already given to the breaker.
        granted: The number of tickets granted in this epoch, used or not.
        until: When unused tickets expire, in microseconds of the shared clock.
        refusals: The worker's refused calls at the last fold; workers with new refusals get tickets first.
    """

    seen: Ends = Ends()
    granted: int = 0
    until: int = 0
    refusals: int = 0


class Arbiter:
    """
    Runs one circuit breaker per version for the whole server, in the supervisor.

    An unused ticket expires after one second, so that a worker without calls does not block probes.
    """

    def __init__(self, run: Path, policy: BreakerPolicy, *, micros: Micros) -> None:
        self._run = run
        self._policy = policy
        self._micros = micros
        self._breakers: dict[VersionRef, Breaker] = {}
        self._counts: dict[int, Block] = {}
        self._verdicts: dict[int, Block] = {}
        self._seats: dict[tuple[int, VersionRef], _Seat] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for block in (*self._counts.values(), *self._verdicts.values()):
            block.close()

    def phase(self, version: VersionRef) -> BreakerPhase:
        """Give the phase of *version*'s breaker; CLOSED if no worker has loaded the version."""
        return self._breakers[version].phase if version in self._breakers else BreakerPhase.CLOSED

    def welcome(self, slot: int) -> None:
        """Prepare the slot of a new worker and write the phase of every breaker to it."""
        if slot not in self._counts:
            self._counts[slot] = Block(_counts_path(self._run, slot), writable=True)
            self._verdicts[slot] = Block(_verdicts_path(self._run, slot), writable=True)
        for version in self._breakers:
            self._publish(slot, version)

    def bury(self, slot: int) -> None:
        """Count the unfinished probes of a dead worker as failed; call this only while no process uses the slot."""
        if slot not in self._counts:
            return
        for version, counts in self._counts_of(slot):
            if version in self._breakers:
                self._fold_ends(version, {slot: counts})
                self._bury_probes(slot, version, counts)
            counts.clear()
            self._seats.pop((slot, version), None)

    def _bury_probes(self, slot: int, version: VersionRef, counts: _Counts) -> None:
        breaker = self._breakers[version]
        ends, granted = counts.ends(breaker.epoch), self._seat(slot, version).granted
        lost = ends.taken - ends.good - ends.faults - ends.neutral
        if breaker.phase is BreakerPhase.HALF_OPEN:
            unused = max(0, granted - ends.taken)
            self._set(version, breaker.record(self._now(), epoch=breaker.epoch, faults=max(0, lost), neutral=unused))

    def fold(self) -> None:
        """Give the new counts of all workers to the breakers, and write the results to the workers' blocks."""
        for version, slots in self._holders().items():
            self._breakers.setdefault(version, Breaker(policy=self._policy))
            active = [slot for slot, counts in slots.items() if counts.active]
            if not active:
                self._start_anew(version)
                continue
            self._fold_ends(version, slots)
            self._take_back_lapsed(version, slots)
            self._grant(version, self._by_demand(version, slots, active))
            for slot in slots:
                self._publish(slot, version)

    def _holders(self) -> dict[VersionRef, dict[int, _Counts]]:
        found: dict[VersionRef, dict[int, _Counts]] = {}
        for slot in self._counts:
            for version, counts in self._counts_of(slot):
                found.setdefault(version, {})[slot] = counts
        return found

    def _counts_of(self, slot: int) -> Iterable[tuple[VersionRef, _Counts]]:
        block = self._counts[slot]
        return [(_version(series), _Counts(block, cell)) for series, (cell, _) in block.places().items()]

    def _seat(self, slot: int, version: VersionRef) -> _Seat:
        return self._seats.setdefault((slot, version), _Seat())

    def _fold_ends(self, version: VersionRef, slots: dict[int, _Counts]) -> None:
        epoch = self._breakers[version].epoch
        for slot, counts in slots.items():
            seat, ends = self._seat(slot, version), counts.ends(epoch)
            before, seat.seen = seat.seen, ends
            breaker = self._breakers[version].record(
                self._now(),
                epoch=epoch,
                good=ends.good - before.good,
                faults=ends.faults - before.faults,
                neutral=ends.neutral - before.neutral,
            )
            if breaker.epoch != epoch:
                self._set(version, breaker)
                return
            self._breakers[version] = breaker

    def _take_back_lapsed(self, version: VersionRef, slots: dict[int, _Counts]) -> None:
        now = self._micros()
        for slot, counts in slots.items():
            seat = self._seat(slot, version)
            taken = counts.ends(self._breakers[version].epoch).taken
            if seat.granted > taken and now > seat.until + _TICKET_GRACE_MICROS:
                unused, seat.granted = seat.granted - taken, taken
                breaker = self._breakers[version]
                self._breakers[version] = breaker.record(self._now(), epoch=breaker.epoch, neutral=unused)

    def _grant(self, version: VersionRef, slots: list[int]) -> None:
        if self._breakers[version].phase is BreakerPhase.CLOSED:
            return
        for turn in range(self._policy.probes):
            breaker, admission = self._breakers[version].admit(self._now())
            if isinstance(admission, CallRefused):
                return
            self._set(version, breaker)
            seat = self._seat(slots[turn % len(slots)], version)
            seat.granted += 1
            seat.until = self._micros() + _TICKET_LIFE_MICROS

    def _by_demand(self, version: VersionRef, slots: dict[int, _Counts], active: list[int]) -> list[int]:
        refusals = {slot: slots[slot].refusals - self._seat(slot, version).refusals for slot in active}
        for slot in active:
            self._seat(slot, version).refusals = slots[slot].refusals
        return sorted(active, key=lambda slot: -refusals[slot])

    def _start_anew(self, version: VersionRef) -> None:
        breaker = self._breakers[version]
        if breaker.phase is not BreakerPhase.CLOSED or breaker.slots:
            self._set(version, Breaker(policy=self._policy, epoch=breaker.epoch + 1))
            for slot in self._verdicts:
                self._publish(slot, version)

    def _set(self, version: VersionRef, breaker: Breaker) -> None:
        """Store *breaker*; in a new epoch, counts and tickets of the old epoch are reset."""
        if breaker.epoch != self._breakers[version].epoch:
            for (_, known), seat in self._seats.items():
                if known == version:
                    seat.seen, seat.granted, seat.until = Ends(), 0, 0
        self._breakers[version] = breaker

    def _publish(self, slot: int, version: VersionRef) -> None:
        """Write breaker state to a worker's block: first clear old tickets, then write the epoch, then new tickets."""
        block, breaker = self._verdicts[slot], self._breakers[version]
        cell = block.reserve(_series(version), _VERDICT_WIDTH)
        if cell < 0:
            return
        standing = breaker.epoch * len(_PHASES) + _PHASES.index(breaker.phase)
        if block.cells[cell + _STANDING] != standing:
            block.cells[cell + _TICKETS] = 0
        block.cells[cell + _RETRY_AT] = (breaker.since + self._policy.open_for - EPOCH) // timedelta(microseconds=1)
        block.cells[cell + _STANDING] = standing
        seat = self._seat(slot, version)
        block.cells[cell + _TICKETS] = seat.until << _TICKET_BITS | seat.granted

    def _now(self) -> datetime:
        return EPOCH + timedelta(microseconds=self._micros())


def _series(version: VersionRef) -> Series:
    return Series(_NAME, (("model", version.model), ("version", str(version.number))))


def _version(series: Series) -> VersionRef:
    labels = dict(series.labels)
    return version_ref(ModelName(labels["model"]), int(labels["version"]))


def _counts_path(run: Path, slot: int) -> Path:
    return run / f"breaker-counts-{slot}.block"


def _verdicts_path(run: Path, slot: int) -> Path:
    return run / f"breaker-verdicts-{slot}.block"
