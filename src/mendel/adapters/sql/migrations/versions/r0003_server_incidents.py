"""Allow one open incident for each server, beside those about the version itself."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_OPEN = sa.text("status IN ('open', 'investigating', 'mitigating')")


def upgrade() -> None:
    """Add the column, empty for existing incidents, and make it part of the unique index of open incidents."""
    op.add_column("incidents", sa.Column("server", sa.String(length=200), nullable=False, server_default=sa.text("''")))
    op.drop_index("one_open_incident", table_name="incidents")
    op.create_index(
        "one_open_incident",
        "incidents",
        ["model", "version", "cause", "server"],
        unique=True,
        sqlite_where=_OPEN,
        postgresql_where=_OPEN,
    )


def downgrade() -> None:
    """Always raises: two open incidents about servers would violate the former index."""
    raise NotImplementedError("The database schema cannot be downgraded.")
