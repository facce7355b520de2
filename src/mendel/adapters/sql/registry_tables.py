"""The registry's tables; their constraints protect the invariants against every writer."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKeyConstraint,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from mendel.adapters.sql.table_metadata import metadata
from mendel.values import Stage

_Position = BigInteger().with_variant(Integer, "sqlite")

registrations = Table(
    "registrations",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("key", String(256), primary_key=True),
    Column("requested_at", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)
versions = Table(
    "versions",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("uuid", String(34), nullable=False, unique=True),
    Column("key", String(256), nullable=False),
    Column("stage", String(16), nullable=False),
    Column("artifact_digest", String(71), nullable=False, index=True),
    Column("body", Text, nullable=False),
    Column("image_digest", String(71), index=True),
    UniqueConstraint("model", "key"),
    CheckConstraint(f"stage IN ({', '.join(repr(stage.value) for stage in Stage)})", name="known_stage"),
)
Index(
    "one_production_version",
    versions.c.model,
    unique=True,
    sqlite_where=versions.c.stage == Stage.PRODUCTION.value,
    postgresql_where=versions.c.stage == Stage.PRODUCTION.value,
)
deployments = Table(
    "deployments",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("generation", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)
revision = Table(
    "revision",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
)
tenures = Table(
    "tenures",
    metadata,
    Column("position", _Position, primary_key=True, autoincrement=True),
    Column("model", String(128), nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("start_at", BigInteger, nullable=False),
    Column("end_at", BigInteger),
    Column("actor", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("start_event", String(200), nullable=False),
    Column("end_event", String(200)),
    ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.number"]),
    CheckConstraint("(end_at IS NULL) = (end_event IS NULL)", name="ended_by_an_event"),
    sqlite_autoincrement=True,
)
Index(
    "one_open_tenure",
    tenures.c.model,
    unique=True,
    sqlite_where=tenures.c.end_at.is_(None),
    postgresql_where=tenures.c.end_at.is_(None),
)
gate_records = Table(
    "gate_records",
    metadata,
    Column("position", _Position, primary_key=True, autoincrement=True),
    Column("model", String(128), nullable=False),
    Column("version", Integer, nullable=False),
    Column("body", Text, nullable=False),
    ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.number"]),
    Index("gate_records_of", "model", "version"),
    sqlite_autoincrement=True,
)
policies = Table(
    "policies",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("body", Text, nullable=False),
)
api_keys = Table(
    "api_keys",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("added_at", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)
servers = Table(
    "servers",
    metadata,
    Column("server", String(200), primary_key=True),
    Column("epoch", String(200), nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
)
counters = Table(
    "counters",
    metadata,
    Column("server", String(200), primary_key=True),
    Column("epoch", String(200), primary_key=True),
    Column("model", String(128), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    Index("counters_at", "model", "version", "at"),
)
snapshots = Table(
    "snapshots",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("source", String(200), primary_key=True),
    Column("start_at", BigInteger, primary_key=True, autoincrement=False),
    Column("end_at", BigInteger, primary_key=True, autoincrement=False),
    Column("recorded_at", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.number"]),
    Index("snapshots_end", "model", "version", "end_at"),
    Index("snapshots_age", "source", "end_at"),
)
planned_promotions = Table(
    "planned_promotions",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("state", String(16), nullable=False, index=True),
    Column("body", Text, nullable=False),
)
canary_runs = Table(
    "canary_runs",
    metadata,
    Column("model", String(128), primary_key=True),
    Column("body", Text, nullable=False),
)
