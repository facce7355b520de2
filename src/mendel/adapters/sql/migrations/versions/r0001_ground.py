"""Every table of the first schema."""

from __future__ import annotations

from alembic import op

from mendel.adapters.sql import all_stores
from mendel.adapters.sql.base import metadata
from mendel.adapters.sql.durable import create_head

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables and the head row of an empty ledger."""
    all_stores()  # imports the rooms' tables
    connection = op.get_bind()
    metadata.create_all(connection)
    create_head(connection)


def downgrade() -> None:
    """Refuse: a state database is never taken back to nothing."""
    raise NotImplementedError("There is no schema before the first.")
