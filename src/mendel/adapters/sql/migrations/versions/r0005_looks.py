"""Add the table of looks, which are evaluations of models with their inputs, and find old snapshots by an index."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table and the index; earlier decisions have no looks."""
    op.create_table(
        "looks",
        sa.Column("position", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("model", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=50), nullable=False),
        sa.Column("incident", sa.String(length=100), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("position"),
        sa.UniqueConstraint("id"),
    )
    op.create_index("ix_looks_incident", "looks", ["incident"])
    op.create_index("ix_looks_until", "looks", ["until"])
    op.create_index("looks_of_model", "looks", ["model", "kind", "incident", "position"])
    op.create_index("snapshots_age", "snapshots", ["source", "end_at"])


def downgrade() -> None:
    """Always raises: downgrading would lose the evidence of decisions."""
    raise NotImplementedError("The database schema cannot be downgraded.")
