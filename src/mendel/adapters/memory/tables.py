"""Tables in memory: frozen rows by key, copied per transaction and swapped at the commit."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, cast

Committed = Mapping[str, dict[Any, Any]]


class MemoryTables:
    """
    The tables as one transaction sees them.

    Rows must be immutable: a transaction copies a table, not its rows.
    """

    def __init__(self, committed: Committed, *, writes: bool) -> None:
        self._committed = committed
        self._writes = writes
        self._seen: dict[str, dict[Any, Any]] = {}

    def table(self, name: str) -> dict[Any, Any]:
        """The rows of table *name* by key, oldest first; empty at first, and read-only in a reading transaction."""
        if name not in self._seen:
            rows = self._committed.get(name, {})
            self._seen[name] = dict(rows) if self._writes else cast("dict[Any, Any]", MappingProxyType(rows))
        return self._seen[name]

    def merged(self) -> Committed:
        """The tables as they are after the commit of this transaction."""
        return {**self._committed, **self._seen}
