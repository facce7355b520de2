"""Implements every port in memory, for tests and for use without a database."""

from __future__ import annotations

from collections.abc import Callable

from mendel.adapters.memory.tables import MemoryTables
from mendel.adapters.memory.unit_of_work import MemoryStores, MemoryUnitOfWork
from mendel.adapters.memory.workflows import MemoryWorkflows

__all__ = ["MemoryStores", "MemoryTables", "MemoryUnitOfWork", "MemoryWorkflows", "all_stores"]


def all_stores() -> dict[type, Callable[[MemoryTables], object]]:
    """Give the function that makes the memory store of each port."""
    from mendel.adapters.memory import healing, predictions, registry, views  # noqa: PLC0415 - the rooms' files import this package

    return {**registry.STORES, **predictions.STORES, **healing.STORES, **views.STORES}
