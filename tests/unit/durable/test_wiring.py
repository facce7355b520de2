"""Every room's stores are wired, and their tables are in the schema."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from sqlalchemy import inspect

import mendel.adapters.memory
import mendel.adapters.sql
from mendel.adapters.sql import metadata, open_engine, prepare_schema


@pytest.mark.parametrize("package", [mendel.adapters.memory, mendel.adapters.sql])
def test_all_stores_holds_the_stores_of_every_file(package):
    """A room's file that declares STORES is in all_stores()."""
    wired = package.all_stores()
    own = import_module(f"{package.__name__}.durable").STORES
    for path in sorted(Path(package.__file__).parent.glob("*.py")):
        module = import_module(f"{package.__name__}.{path.stem}") if path.stem != "__init__" else package
        stores = getattr(module, "STORES", {})
        if stores is not own:
            assert stores.items() <= wired.items(), path.name


def test_memory_and_sql_implement_the_same_ports():
    """What can be stored in memory can be stored in the database, and the other way round."""
    assert mendel.adapters.memory.all_stores().keys() == mendel.adapters.sql.all_stores().keys()


def test_the_schema_holds_every_declared_table(tmp_path):
    """Preparing creates every table of the metadata."""
    mendel.adapters.sql.all_stores()
    engine = open_engine(tmp_path / "mendel.db")
    prepare_schema(engine)
    assert set(metadata.tables) <= set(inspect(engine).get_table_names())
    engine.dispose()
