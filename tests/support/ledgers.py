"""Ledgers for tests: sealed entries, and whether a chain of them is whole."""

from __future__ import annotations

from mendel.durable import Event, next_entry, sealed, verify_chain
from mendel.values import EPOCH


def event(number, **changes):
    """An event whose content depends on its number."""
    facts = {"id": f"e{number}", "type": "thing.happened", "subject": "credit@1", "time": EPOCH, "actor": "ann"}
    return Event(**{**facts, "data": {"number": number}, **changes})


def chained(length):
    """The entries of a ledger."""
    entries = []
    for number in range(1, length + 1):
        entries.append(next_entry(entries[-1] if entries else None, event(number)))
    return entries


def whole_to(entries):
    """The number of the last of *entries*, which must form a whole chain from entry 1."""
    check = verify_chain(map(sealed, entries))
    assert check.findings == []
    return check.last
