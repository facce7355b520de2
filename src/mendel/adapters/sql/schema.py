"""Create and upgrade the schema of the state database, and refuse a schema newer than this code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, insert, inspect, select, update

from mendel.adapters.sql.durable import meta
from mendel.adapters.sql.engine import translated
from mendel.adapters.sql.table_metadata import metadata
from mendel.errors import SchemaTooNew

SCHEMA_VERSION = 7
"""The schema version of this code; developers raise it with every migration. The database stores its own version."""

_MIGRATIONS = Path(__file__).parent / "migrations"
_KEY = "schema_version"


def prepare_schema(engine: Engine) -> None:
    """
    Create or upgrade the schema in one transaction; several processes may do so at the same time.

    Raises:
        SchemaTooNew: The database was written by a newer Mendel; nothing was changed.
        StoreUnavailable: The database does not answer.
    """
    with translated(), engine.connect() as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(72757473)")
        found = schema_version(connection)
        if found > SCHEMA_VERSION:
            raise SchemaTooNew(
                (
                    f"The database has schema version {found}; the installed Mendel supports versions up "
                    f"to {SCHEMA_VERSION}."
                ),
                remedy="Upgrade Mendel, or name another data directory with --directory.",
            )
        if found < SCHEMA_VERSION:
            _migrate(connection)
            _record_version(connection, found)


def schema_version(connection: Connection) -> int:
    """Read the schema version of the database; 0 without a schema."""
    if not inspect(connection).has_table(meta.name):
        return 0
    value = connection.execute(select(meta.c.value).where(meta.c.key == _KEY)).scalar()
    return 0 if value is None else int(value)


def _record_version(connection: Connection, found: int) -> None:
    if found == 0:
        connection.execute(insert(meta), {"key": _KEY, "value": str(SCHEMA_VERSION)})
    else:
        connection.execute(update(meta).where(meta.c.key == _KEY).values(value=str(SCHEMA_VERSION)))


def _migrate(connection: Connection) -> None:
    from alembic.config import Config  # noqa: PLC0415 - slow to import, and most databases have their schema
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)

    def upgrade(revision: Any, _: object) -> Any:
        return scripts._upgrade_revs("head", revision)  # noqa: SLF001 - what `alembic upgrade` itself calls

    with EnvironmentContext(config, scripts, fn=upgrade, destination_rev="head") as environment:
        environment.configure(connection=connection, target_metadata=metadata)
        environment.run_migrations()
