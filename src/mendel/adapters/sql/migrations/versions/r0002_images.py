"""Add the digest of the image that contains a model version."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, empty for versions that are already registered."""
    op.add_column("versions", sa.Column("image_digest", sa.String(length=71)))
    op.create_index("ix_versions_image_digest", "versions", ["image_digest"])


def downgrade() -> None:
    """Always raises: downgrading would lose the recorded image digests."""
    raise NotImplementedError("The database schema cannot be downgraded.")
