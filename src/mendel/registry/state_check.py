"""Compare the registry's tables with the state that follows from the events of the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mendel.durable import Ledger, Transaction
from mendel.registry.ports import RegistryStore, StoredRow
from mendel.registry.registry_state import RegistryState
from mendel.registry.state_differences import FieldDifference, RowChange, RowDifference, RowKind, differences
from mendel.registry.timeline import folded_state, stored_state

_DIGEST = "record_digest"


@dataclass(frozen=True, slots=True, kw_only=True)
class StateFault:
    """A row of the registry's tables that does not follow from the events of the ledger, and why."""

    kind: RowKind
    row: str
    message: str


def state_faults(tx: Transaction) -> Iterator[StateFault]:
    """
    Give the rows that do not follow from the ledger: first those that contradict themselves, then by kind and key.

    Raises:
        InvalidValue: The content of an entry cannot be decoded.
        StateUnknown: A former Mendel wrote the entries, and the entry with the whole state is missing.
    """
    ledger = tx.store(Ledger)
    head = ledger.head()
    expected = RegistryState() if head is None else folded_state(ledger, until=head)
    faults: dict[tuple[RowKind, str], str] = {}
    stored = stored_state(_noting_faults(tx.store(RegistryStore).scan(), faults))
    for (kind, row), fault in faults.items():
        yield StateFault(kind=kind, row=row, message=f"The row of the {kind} {row} is wrong: {fault}.")
    for one in differences(expected, stored):
        if (one.kind, one.row) not in faults:
            yield StateFault(kind=one.kind, row=one.row, message=_message(one))


def _noting_faults(rows: Iterable[StoredRow], faults: dict[tuple[RowKind, str], str]) -> Iterator[StoredRow]:
    """Pass *rows* on one by one, and note the faults of those that contradict themselves."""
    for row in rows:
        if row.fault:
            faults[row.kind, row.name] = row.fault
        yield row


def _message(difference: RowDifference) -> str:
    named = f"the {difference.kind} {difference.row}"
    match difference.change:
        case RowChange.ADDED:
            return f"The tables have {named}, but no event of the ledger wrote its row."
        case RowChange.REMOVED:
            return f"The events of the ledger wrote {named}, but the tables lack its row."
    told = [one for one in difference.fields if one.field != _DIGEST]
    if not told:
        return f"The row of {named} was changed in fields that the ledger records by their digest only."
    return f"The row of {named} was changed: {'; '.join(map(_field, told))}."


def _field(one: FieldDifference) -> str:
    return f"{one.field} is {one.after!r}, and the events of the ledger say {one.before!r}"
