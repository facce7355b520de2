"""
Give each API key an id, and the scopes ``approve`` and ``serve`` to the keys that had these rights before.

A key with ``deploy`` could approve versions; a key with ``read`` and ``label`` could do what a server does.
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ID_LENGTH = 12  # events named a key by as many digits of its digest


def upgrade() -> None:
    """Rewrite the stored keys; their secrets stay valid."""
    keys = sa.table("api_keys", sa.column("digest", sa.String), sa.column("body", sa.Text))
    connection = op.get_bind()
    for digest, body in connection.execute(sa.select(keys.c.digest, keys.c.body)).all():
        key = json.loads(body)
        scopes = set(key["scopes"])
        if "deploy" in scopes:
            scopes.add("approve")
        if {"read", "label"} <= scopes:
            scopes.add("serve")
        key |= {"id": digest[:_ID_LENGTH], "scopes": sorted(scopes)}
        connection.execute(sa.update(keys).where(keys.c.digest == digest).values(body=json.dumps(key)))


def downgrade() -> None:
    """Always raises: Mendel with the former schema knows fewer scopes."""
    raise NotImplementedError("The database schema cannot be downgraded.")
