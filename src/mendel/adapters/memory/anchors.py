"""Signed ledger heads in memory."""

from __future__ import annotations

import secrets
from datetime import datetime

from mendel.durable import Anchor, Ledger, UnitOfWork, sign_head

_KEY_BYTES = 32


class MemoryAnchors:
    """Implements :class:`mendel.durable.Anchors`, with a key of its own."""

    def __init__(self) -> None:
        self._private_key = secrets.token_bytes(_KEY_BYTES)
        self._anchors: dict[int, Anchor] = {}

    def all(self) -> tuple[Anchor, ...]:
        return tuple(self._anchors[sequence] for sequence in sorted(self._anchors))

    def trusted(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(anchor.public_key for anchor in self._anchors.values()))

    def sign(self, unit: UnitOfWork, now: datetime) -> Anchor | None:
        head = unit.read(lambda tx: tx.store(Ledger).head())
        if head is None or head.sequence in self._anchors:
            return None
        self._anchors[head.sequence] = sign_head(head, private_key=self._private_key, at=now)
        return self._anchors[head.sequence]
