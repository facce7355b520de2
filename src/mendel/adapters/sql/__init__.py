"""The state database: SQLite on one machine, or PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection

from mendel.adapters.sql.engine import open_engine, translated
from mendel.adapters.sql.schema import SCHEMA_VERSION, prepare_schema
from mendel.adapters.sql.table_metadata import metadata
from mendel.adapters.sql.unit_of_work import SqlStores, SqlUnitOfWork

__all__ = [
    "SCHEMA_VERSION",
    "SqlStores",
    "SqlUnitOfWork",
    "all_stores",
    "metadata",
    "open_engine",
    "prepare_schema",
    "translated",
]


def all_stores() -> dict[type, Callable[[Connection], object]]:
    """Give the function that makes each port's SQL store; this call also adds their tables to :data:`metadata`."""
    from mendel.adapters.sql import healing, predictions, registry, views  # noqa: PLC0415 - the rooms' files import this package

    return {**registry.STORES, **predictions.STORES, **healing.STORES, **views.STORES}
