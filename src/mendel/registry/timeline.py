"""The registry at points in its past, rebuilt from the events of the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile

from mendel.durable import Clock, Event, Ledger, LedgerEntry, NewId, Transaction, UnitOfWork
from mendel.errors import InvalidValue, NothingToReturnTo, StateUnknown
from mendel.registry.history import in_production_at
from mendel.registry.lookups import unknown_model
from mendel.registry.points_in_time import AfterEntry, PointInTime
from mendel.registry.policies import PolicyDocument
from mendel.registry.ports import RegistryStore, StoredRow
from mendel.registry.registry_state import (
    FIRST_EVENTS,
    ROW_EVENTS,
    ROWS,
    WHOLE_STATE,
    NumberedPeriod,
    RegistryState,
    VersionState,
    fold,
)
from mendel.registry.state_differences import RowDifference, differences
from mendel.registry.version_records import VersionRecord
from mendel.values import Deployment, ModelName, to_builtins

_PIECE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class PastState:
    """
    The registry at a point in its past.

    Attributes:
        sequence: The number of the newest ledger entry at that point, which was written at ``time``.
    """

    sequence: int
    time: datetime
    state: RegistryState


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryDiff:
    """The rows of the registry that differ between two points in its past."""

    since: PastState
    until: PastState
    rows: tuple[RowDifference, ...]


class Timeline:
    """Rebuilds states of the registry from the ledger; nothing else is read."""

    def __init__(self, unit: UnitOfWork, clock: Clock, new_id: NewId) -> None:
        self._unit = unit
        self._clock = clock
        self._new_id = new_id

    def at(self, point: PointInTime, *, model: ModelName | None = None) -> PastState:
        """
        Give the state at *point*, of *model* alone or of all models.

        Raises:
            StateUnknown: The ledger does not tell the state at *point*.
            ModelNotFound: *model* had no version at *point*.
        """
        past = self._unit.read(lambda tx: _past(tx.store(Ledger), point, model))
        if model is not None and not past.state.versions:
            raise unknown_model(model)
        return past

    def diff(self, since: PointInTime, until: PointInTime) -> RegistryDiff:
        """
        Compare the states at two points.

        Raises:
            StateUnknown: The ledger does not tell one of the states.
        """

        def work(tx: Transaction) -> tuple[PastState, PastState]:
            ledger = tx.store(Ledger)
            return _past(ledger, since), _past(ledger, until)

        earlier, later = self._unit.read(work)
        rows = tuple(differences(earlier.state, later.state))
        return RegistryDiff(since=earlier, until=later, rows=rows)

    def production_at(self, model: ModelName, point: PointInTime) -> int:
        """
        Find the version of *model* that was in production at *point*.

        Times before the first entry with the whole state are answered too, from the periods in that entry.

        Raises:
            NothingToReturnTo: No version was in production.
            StateUnknown: The ledger does not tell the state at *point*.
        """
        if isinstance(point, AfterEntry):
            deployment = self.at(point, model=model).state.deployments.get(model)
            found = None if deployment is None else deployment.production
            told = f"after entry {point.sequence}"
        else:
            newest = self._unit.read(lambda tx: _newest_state(tx.store(Ledger), model))
            if not newest.versions:
                raise unknown_model(model)
            found = in_production_at([newest.periods[key] for key in sorted(newest.periods)], point)
            told = f"at {point.isoformat()}"
        if found is None:
            raise NothingToReturnTo(f"No version of {model} was in production {told}.")
        return found

    def record_whole_state(self) -> bool:
        """
        Write the whole state into the ledger if a former Mendel wrote events without rows; gives whether it did.

        From then on, states follow from the events.
        """
        if not self._unit.read(lambda tx: _begins_without_rows(tx.store(Ledger))):
            return False

        def work(tx: Transaction) -> bool:
            needed = _begins_without_rows(tx.store(Ledger))
            if needed:
                tx.append(self._whole_state(tx.store(RegistryStore)))
            return needed

        return self._unit.write(work)

    def _whole_state(self, store: RegistryStore) -> Event:
        return Event(
            id=self._new_id(),
            type="registry.state",
            subject="registry",
            time=self._clock(),
            actor="registry",
            data={ROWS: to_builtins(stored_state(store.scan()).rows)},
        )


def stored_state(rows: Iterable[StoredRow]) -> RegistryState:
    """Give the state that consists of *rows* of the registry's tables."""
    state = RegistryState()
    for row in rows:
        match row.content:
            case VersionRecord() as record:
                state.versions[record.ref] = VersionState.of(record)
            case Deployment() as deployment:
                state.deployments[deployment.model] = deployment
            case PolicyDocument() as document:
                state.policies[document.model, document.version] = document
            case NumberedPeriod() as numbered:
                state.periods[numbered.period.model, numbered.number] = numbered.period
    return state


def folded_state(ledger: Ledger, *, until: LedgerEntry, model: ModelName | None = None) -> RegistryState:
    """
    Rebuild the state after the entry *until*, of *model* alone or of all models.

    Raises:
        StateUnknown: A former Mendel wrote the entries up to *until*, without rows.
    """
    state = fold(_row_entries(ledger, until.sequence, model), model=model)
    if state is not None:
        return state
    told = next(iter(ledger.entries(types=(WHOLE_STATE,), limit=1)), None)
    since = "" if told is None else f" It is known from entry {told.sequence} ({told.event.time.isoformat()}) on."
    raise StateUnknown(
        f"The ledger does not tell the registry's state after entry {until.sequence}: "
        f"a former version of Mendel wrote the entries up to there.{since}",
        remedy="Name a later time or entry.",
    )


def _past(ledger: Ledger, point: PointInTime, model: ModelName | None = None) -> PastState:
    newest = _newest_entry(ledger, point)
    state = folded_state(ledger, until=newest, model=model)
    return PastState(sequence=newest.sequence, time=newest.event.time, state=state)


def _row_entries(ledger: Ledger, until: int, model: ModelName | None) -> Iterator[LedgerEntry]:
    """Give the newest entry with the whole state, and the entries with rows after it, up to entry *until*."""
    whole = [one for one in ledger.entries(types=(WHOLE_STATE,)) if one.sequence <= until][-1:]
    yield from whole
    after = whole[0].sequence if whole else 0
    while piece := ledger.entries(after=after, limit=_PIECE, types=ROW_EVENTS, subject=model):
        yield from takewhile(lambda one: one.sequence <= until, piece)
        after = piece[-1].sequence
        if after > until:
            return


def _newest_entry(ledger: Ledger, point: PointInTime) -> LedgerEntry:
    """Find the newest entry at *point*."""
    head, first = ledger.head(), next(iter(ledger.entries(limit=1)), None)
    if head is None or first is None:
        raise StateUnknown("The ledger is empty, so it tells no state of the registry.")
    if isinstance(point, datetime):
        found = ledger.newest_until(point)
    elif point.sequence > head.sequence:
        raise InvalidValue(
            f"The ledger has no entry {point.sequence}.", remedy=f"The newest entry has the number {head.sequence}."
        )
    else:
        found = next(iter(ledger.entries(after=point.sequence - 1, limit=1)), None)
        found = found if found is not None and found.sequence == point.sequence else None
    if found is None:
        raise StateUnknown(
            f"The ledger begins later, with entry {first.sequence} at {first.event.time.isoformat()}.",
            remedy="Name a later time or entry.",
        )
    return found


def _newest_state(ledger: Ledger, model: ModelName) -> RegistryState:
    head = ledger.head()
    return RegistryState() if head is None else folded_state(ledger, until=head, model=model)


def _begins_without_rows(ledger: Ledger) -> bool:
    """Whether a former Mendel, whose events carried no rows, wrote the first events, and no whole state follows."""
    with suppress(InvalidValue):  # an altered entry that cannot be decoded, which the verification names
        first = ledger.entries(types=(WHOLE_STATE, *FIRST_EVENTS), limit=1)
        return any(ROWS not in one.event.data for one in first) and not ledger.entries(types=(WHOLE_STATE,), limit=1)
    return False
