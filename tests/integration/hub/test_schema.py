"""The migrations, frozen, make the schema that the code expects."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import text

from mendel.adapters.memory.anchors import MemoryAnchors, MemorySigningKeys
from mendel.adapters.sql import SCHEMA_VERSION, SqlUnitOfWork, all_stores, metadata, open_engine, prepare_schema
from mendel.adapters.sql.migrations.versions import r0001_ground
from mendel.adapters.sql.registry import SqlRegistryStore
from mendel.adapters.sql.schema import schema_version
from mendel.durable import LedgerVerification, Notary, VerifiedRange
from mendel.registry import VersionImage, VersionRecord
from mendel.values import EPOCH, Digest, ModelName, Stage, VersionRef, VersionUuid, to_builtins, to_json
from support.ledgers import chained, event

VERSION = VersionRecord(
    ref=VersionRef(ModelName("credit"), 1),
    uuid=VersionUuid(f"m-{1:032x}"),
    run_id=None,
    stage=Stage.SANDBOX,
    flavor="sklearn",
    task="binary",
    artifact_digest=Digest(f"sha256:{'1' * 64}"),
    registered_at=EPOCH,
    idempotency_key="k",
)

OLD_KEYS = {
    "a" * 64: ("admin",),
    "b" * 64: ("deploy", "read"),
    "c" * 64: ("label", "read"),
    "d" * 64: ("label", "predict"),
}
"""Keys of the first schema: the scopes of each by its digest."""
NEW_SCOPES = OLD_KEYS | {"b" * 64: ("approve", "deploy", "read"), "c" * 64: ("label", "read", "serve")}
"""The same keys after the upgrade: who could approve or serve still can."""

SQLITE_SCHEMA = (
    "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE tbl_name NOT LIKE 'alembic%' ORDER BY type, name"
)
POSTGRES_SCHEMA = """
SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text NOT LIKE 'alembic%'
UNION ALL
SELECT 'index', tablename, indexname, indexdef FROM pg_indexes
WHERE schemaname = 'public' AND tablename NOT LIKE 'alembic%'
ORDER BY 1, 2, 3
"""


@pytest.fixture(params=["sqlite", "postgres"])
def open_empty(request, tmp_path):
    """Opens an empty database, as often as asked."""
    engines = []

    def open_one():
        if request.param == "sqlite":
            engine = open_engine(tmp_path / f"{len(engines)}.db")
        else:
            engine = open_engine(request.getfixturevalue("postgres"))
            with engine.begin() as connection:
                connection.execute(text("DROP SCHEMA public CASCADE"))
                connection.execute(text("CREATE SCHEMA public"))
        engines.append(engine)
        return engine

    yield open_one
    for engine in engines:
        engine.dispose()


def described(engine):
    with engine.connect() as connection:
        query = SQLITE_SCHEMA if engine.dialect.name == "sqlite" else POSTGRES_SCHEMA
        return {tuple(row[:3]): _canonical(row[3]) for row in connection.execute(text(query))}


def _canonical(definition):
    """Constraints of a table stand in the order they were declared; which that is means nothing."""
    lines = " ".join((definition or "").split()).replace(", ", "\n").removesuffix(")").splitlines()
    return sorted(line.strip(" ,") for line in lines)


def test_the_migrated_schema_is_what_the_code_declares(open_empty):
    """Comparing the migrated database with the declared tables finds nothing to change, columns and types included."""
    engine = open_empty()
    prepare_schema(engine)
    all_stores()
    with engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True, "include_name": _ours}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []


def _ours(name, kind, _):
    return kind != "table" or not name.startswith("alembic")


def test_the_constraints_are_those_the_code_declares(open_empty):
    """Checks, partial indexes and foreign keys, which Alembic does not compare, are the same too."""
    all_stores()
    declared = open_empty()
    metadata.create_all(declared)
    wanted = described(declared)
    migrated = open_empty()
    prepare_schema(migrated)
    assert described(migrated) == wanted
    assert len(wanted) > len(metadata.tables)


def test_the_first_revision_looks_at_no_code_but_its_own():
    """The first migration imports nothing of Mendel, so no later change of the code changes it."""
    probe = (
        "import runpy, sys; before = set(sys.modules); runpy.run_path(sys.argv[1]);"
        "print([m for m in set(sys.modules) - before if m.startswith('mendel')])"
    )
    found = subprocess.run(
        [sys.executable, "-c", probe, r0001_ground.__file__], check=True, capture_output=True, text=True, timeout=60
    )
    assert found.stdout.strip() == "[]"


def test_a_database_of_the_first_schema_is_upgraded(open_empty):
    """What the first schema holds is found again after the upgrade, and what later ones add works."""
    engine = open_empty()
    _make_first_schema(engine)
    old = {name: value for name, value in to_builtins(VERSION).items() if name != "image"}
    columns = "model, number, uuid, key, stage, artifact_digest, body"
    row = {
        **{name: old[name] for name in ("uuid", "stage", "artifact_digest")},
        "key": "k",
        "body": to_json(old).decode(),
    }
    with engine.begin() as connection:
        insert = f"INSERT INTO versions ({columns}) VALUES ('credit', 1, :uuid, :key, :stage, :artifact_digest, :body)"  # noqa: S608 - our own words
        connection.execute(text(insert), row)
        for number, status in ((1, "open"), (2, "resolved")):
            columns = "id, model, version, cause, status, body"
            incident = f"INSERT INTO incidents ({columns}) VALUES (:id, 'credit', 1, 'servers', :status, '')"  # noqa: S608 - our own words
            connection.execute(text(incident), {"id": f"INC-2026-{number}", "status": status})
        for digest, scopes in OLD_KEYS.items():
            key = {"digest": digest, "scopes": scopes, "label": "l", "added_at": to_builtins(EPOCH)}
            row = {"digest": digest, "body": to_json(key).decode()}
            connection.execute(text("INSERT INTO api_keys (digest, added_at, body) VALUES (:digest, 0, :body)"), row)
        for entry in chained(3):
            written = "sequence, prev_hash, hash, id, type, subject, root, time, actor, data"
            row = {**to_builtins(entry.event), "sequence": entry.sequence, "prev_hash": entry.prev_hash}
            row |= {"hash": entry.hash, "root": "credit", "time": 0, "data": to_json(entry.event.data).decode()}
            places = ", ".join(f":{name}" for name in written.split(", "))
            connection.execute(text(f"INSERT INTO ledger ({written}) VALUES ({places})"), row)  # noqa: S608 - our own words
        connection.execute(text("UPDATE ledger_head SET sequence = 3, hash = :hash"), {"hash": chained(3)[-1].hash})
    prepare_schema(engine)
    unit = SqlUnitOfWork(engine, {}, rng=random.Random(0))
    unit.write(lambda tx: tx.append(event(4)))
    notary = Notary(unit, MemorySigningKeys(), [MemoryAnchors()], lambda: "key")
    signed = notary.checkpoint(EPOCH)
    verified = LedgerVerification(unit, notary).piece(VerifiedRange(), limit=100)
    assert (verified.findings, verified.reached.last, verified.reached.agreed) == ((), 5, 5)
    assert signed.origin.startswith("mendel/")
    with engine.begin() as connection:
        assert schema_version(connection) == SCHEMA_VERSION
        keys = SqlRegistryStore(connection).api_keys()
        assert {key.digest: key.scopes for key in keys} == NEW_SCOPES
        assert all(key.id == key.digest[:12] and key.lasts for key in keys)
        store = SqlRegistryStore(connection)
        assert store.version(VERSION.ref) == VERSION
        image = VersionImage(reference="risk/credit:v1", digest=Digest(f"sha256:{'7' * 64}"))
        store.replace_version(replace(VERSION, image=image))
        assert [record.image for record in store.versions_by_image(image.digest)] == [image]
        assert [row.server for row in connection.execute(text("SELECT server FROM incidents"))] == ["", ""]


def _make_first_schema(engine):
    with engine.begin() as connection:
        operations = Operations(MigrationContext.configure(connection))
        with Operations.context(operations.migration_context):
            r0001_ground.upgrade()
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('0001')"))
        connection.execute(text("INSERT INTO meta (key, value) VALUES ('schema_version', '1')"))


def test_the_schema_version_counts_the_revisions():
    """Every revision raises the version that older code refuses."""
    revisions = Path(r0001_ground.__file__).parent.glob("r*.py")
    assert len(list(revisions)) == SCHEMA_VERSION
