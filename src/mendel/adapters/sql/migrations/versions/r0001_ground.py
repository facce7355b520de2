"""
The tables of the first schema version, as they are in existing databases; independent of the current table code.

This file must not change after a release; a later schema change is a new migration.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_GENESIS = "0" * 64


def upgrade() -> None:
    """Create the tables and the head row of an empty ledger."""
    _durable()
    _registry()
    _watching()
    _predictions()
    _healing()


def downgrade() -> None:
    """Always raises: there is no schema version before the first."""
    raise NotImplementedError("The first version of the database schema cannot be downgraded.")


def _durable() -> None:
    op.create_table(
        "ledger",
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("prev_hash", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("type", sa.String(length=100), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("root", sa.Text(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("data", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sequence"),
        sa.UniqueConstraint("id"),
        sa.UniqueConstraint("prev_hash"),
    )
    op.create_index("ix_ledger_root", "ledger", ["root"])
    op.create_index("ix_ledger_type", "ledger", ["type"])
    head = op.create_table(
        "ledger_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.bulk_insert(head, [{"id": 1, "sequence": 0, "hash": _GENESIS}])
    op.create_table(
        "outbox",
        _position(),
        sa.Column("id", sa.String(length=200), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("input", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("position"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "steps",
        sa.Column("workflow_id", sa.String(length=200), nullable=False),
        sa.Column("step", sa.String(length=200), nullable=False),
        sa.Column("result", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("workflow_id", "step"),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Text()),
        sa.Column("expires", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.String(length=100), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )


def _registry() -> None:
    op.create_table(
        "registrations",
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("key", sa.String(length=256), nullable=False),
        sa.Column("requested_at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("model", "key"),
    )
    op.create_table(
        "versions",
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("uuid", sa.String(length=34), nullable=False),
        sa.Column("key", sa.String(length=256), nullable=False),
        sa.Column("stage", sa.String(length=16), nullable=False),
        sa.Column("artifact_digest", sa.String(length=71), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "stage IN ('development', 'sandbox', 'canary', 'production', 'rollback', 'deprecated')", name="known_stage"
        ),
        sa.PrimaryKeyConstraint("model", "number"),
        sa.UniqueConstraint("model", "key"),
        sa.UniqueConstraint("uuid"),
    )
    op.create_index("ix_versions_artifact_digest", "versions", ["artifact_digest"])
    op.create_index("one_production_version", "versions", ["model"], unique=True, **_where("stage = 'production'"))
    op.create_table(
        "deployments",
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("model"),
    )
    op.create_table(
        "revision",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "tenures",
        _position(),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("start_at", sa.BigInteger(), nullable=False),
        sa.Column("end_at", sa.BigInteger()),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("start_event", sa.String(length=200), nullable=False),
        sa.Column("end_event", sa.String(length=200)),
        sa.CheckConstraint("(end_at IS NULL) = (end_event IS NULL)", name="ended_by_an_event"),
        sa.ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.number"]),
        sa.PrimaryKeyConstraint("position"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_tenures_model", "tenures", ["model"])
    op.create_index("one_open_tenure", "tenures", ["model"], unique=True, **_where("end_at IS NULL"))
    op.create_table(
        "gate_records",
        _position(),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.number"]),
        sa.PrimaryKeyConstraint("position"),
        sqlite_autoincrement=True,
    )
    op.create_index("gate_records_of", "gate_records", ["model", "version"])
    op.create_table(
        "policies",
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("model", "version"),
    )
    op.create_table(
        "api_keys",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("added_at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
    )


def _watching() -> None:
    op.create_table(
        "servers",
        sa.Column("server", sa.String(length=200), nullable=False),
        sa.Column("epoch", sa.String(length=200), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("server"),
    )
    op.create_table(
        "counters",
        sa.Column("server", sa.String(length=200), nullable=False),
        sa.Column("epoch", sa.String(length=200), nullable=False),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("server", "epoch", "model", "version", "seq"),
    )
    op.create_index("counters_at", "counters", ["model", "version", "at"])
    op.create_table(
        "snapshots",
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("source", sa.String(length=200), nullable=False),
        sa.Column("start_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("end_at", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["model", "version"], ["versions.model", "versions.number"]),
        sa.PrimaryKeyConstraint("model", "version", "source", "start_at", "end_at"),
    )
    op.create_index("snapshots_end", "snapshots", ["model", "version", "end_at"])


def _predictions() -> None:
    op.create_table(
        "segment_profiles",
        sa.Column("spool_id", sa.String(length=128), nullable=False),
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("reference_id", sa.String(length=128), nullable=False),
        sa.Column("window_start", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("window_end", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("profile", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("spool_id", "seq", "model", "version", "reference_id", "window_start", "window_end"),
    )
    op.create_index(
        "segment_profiles_by_window", "segment_profiles", ["model", "version", "reference_id", "window_start"]
    )
    op.create_table(
        "spool_progress",
        sa.Column("spool_id", sa.String(length=128), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("spool_id"),
    )


def _healing() -> None:
    op.create_table(
        "healing_numbers",
        sa.Column("series", sa.String(length=100), nullable=False),
        sa.Column("last", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("series"),
    )
    op.create_table(
        "incidents",
        _position(),
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("cause", sa.String(length=50), nullable=False),
        sa.Column("status", sa.String(length=50), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("position"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("ix_incidents_model", "incidents", ["model"])
    op.create_index(
        "one_open_incident",
        "incidents",
        ["model", "version", "cause"],
        unique=True,
        **_where("status IN ('open', 'investigating', 'mitigating')"),
    )
    op.create_table(
        "decisions",
        _position(),
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("incident", sa.String(length=100), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("position"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("ix_decisions_incident", "decisions", ["incident"])
    op.create_table(
        "playbook_runs",
        _position(),
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("incident", sa.String(length=100)),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("state", sa.String(length=50), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("position"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("ix_playbook_runs_incident", "playbook_runs", ["incident"])
    op.create_index("ix_playbook_runs_model", "playbook_runs", ["model"])
    op.create_index("one_active_run", "playbook_runs", ["model"], unique=True, **_where("state = 'running'"))
    op.create_table(
        "healing_pauses",
        sa.Column("scope", sa.String(length=128), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("scope"),
    )


def _position() -> sa.Column[int]:
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("position", kind, autoincrement=True, nullable=False)


def _where(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}
