"""
Give the ledger a name, a Merkle tree over its entries, and a record of its checkpoints.

Existing entries get their leaves in the tree. A number without an entry gets an empty leaf, so that the tree keeps the
numbers of the entries; verification names the missing entry.
"""

from __future__ import annotations

import hashlib
import secrets

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_AT_ONCE = 20_000
_NO_LEAF = bytes(32)


def upgrade() -> None:
    """Add the tables, a new head row, and the nodes of the entries up to the head."""
    tree = op.create_table(
        "ledger_tree",
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("size", "level"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "ledger_checkpoints",
        sa.Column("size", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("stored", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("size"),
    )
    op.create_index("ix_ledger_checkpoints_stored", "ledger_checkpoints", ["stored"])
    connection = op.get_bind()
    sequence, head_hash = connection.execute(sa.text("SELECT sequence, hash FROM ledger_head")).one()
    peaks = _grow(connection, tree, sequence)
    op.drop_table("ledger_head")
    head = op.create_table(
        "ledger_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("peaks", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    row = {"id": 1, "sequence": sequence, "hash": head_hash, "peaks": b"".join(peaks).hex()}
    op.bulk_insert(head, [{**row, "origin": f"mendel/{secrets.token_hex(8)}"}])


def downgrade() -> None:
    """Always raises: Mendel with the former schema would append entries without their nodes."""
    raise NotImplementedError("The database schema cannot be downgraded.")


def _grow(connection: sa.Connection, tree: sa.Table, last: int) -> list[bytes]:
    """Insert the nodes of the entries up to *last*, and give the roots of the complete subtrees, largest first."""
    peaks: list[bytes] = []
    for start in range(0, last, _AT_ONCE):
        end = min(start + _AT_ONCE, last)
        query = sa.text("SELECT sequence, hash FROM ledger WHERE sequence > :start AND sequence <= :end")
        hashes: dict[int, str] = {row[0]: row[1] for row in connection.execute(query, {"start": start, "end": end})}
        rows = [node for size in range(start + 1, end + 1) for node in _nodes(size, hashes.get(size), peaks)]
        connection.execute(sa.insert(tree), rows)
    return peaks


def _nodes(size: int, entry_hash: str | None, peaks: list[bytes]) -> list[dict[str, object]]:
    """Add one leaf to *peaks*; gives the nodes that are complete now (RFC 6962, 2.1)."""
    try:
        node = _NO_LEAF if entry_hash is None else hashlib.sha256(b"\0" + bytes.fromhex(entry_hash)).digest()
    except ValueError:
        node = _NO_LEAF
    level, rows = 0, [{"size": size, "level": 0, "hash": node}]
    while not size >> level & 1:
        level += 1
        node = hashlib.sha256(b"\1" + peaks.pop() + node).digest()
        rows.append({"size": size, "level": level, "hash": node})
    peaks.append(node)
    return rows
