"""Add the tables of planned promotions and of canaries that grow in steps."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables; a canary that already runs keeps its share until a person changes it."""
    op.create_table(
        "planned_promotions",
        sa.Column("model", sa.String(length=128), primary_key=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
    )
    op.create_index("ix_planned_promotions_state", "planned_promotions", ["state"])
    op.create_table(
        "canary_runs",
        sa.Column("model", sa.String(length=128), primary_key=True),
        sa.Column("body", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Always raises: downgrading would lose the promotions that wait."""
    raise NotImplementedError("The database schema cannot be downgraded.")
