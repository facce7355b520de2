"""State databases that have their schema, for tests of what stands in them."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from sqlalchemy import Engine, inspect, text

from mendel.adapters.sql import open_engine, prepare_schema


def new_sqlite(file: Path) -> Engine:
    """An engine over a new file with the schema, which is copied: migrations take ten times as long."""
    file.write_bytes(_with_schema())
    return open_engine(file)


@cache
def _with_schema() -> bytes:
    with tempfile.TemporaryDirectory() as room:
        file = Path(room) / "mendel.db"
        engine = open_engine(file)
        prepare_schema(engine)
        engine.dispose()
        return file.read_bytes()


def emptied_postgres(url: str) -> Engine:
    """An engine over the database as a migration leaves it; what a test before wrote is taken away."""
    engine = open_engine(url)
    prepare_schema(engine)
    with engine.begin() as connection:
        written = set(inspect(connection).get_table_names()) - {"alembic_version", "meta", "ledger_head"}
        connection.execute(text(f"TRUNCATE {', '.join(sorted(written))} RESTART IDENTITY"))
        connection.execute(text("UPDATE ledger_head SET sequence = 0, hash = repeat('0', 64), peaks = ''"))
        connection.execute(text("DELETE FROM meta WHERE key <> 'schema_version'"))
    return engine
