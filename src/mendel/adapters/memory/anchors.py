"""Anchors and signing keys of the ledger in memory."""

from __future__ import annotations

from mendel.durable import StoredAnchor
from mendel.durable.signatures import new_private_key
from mendel.errors import Conflict


class MemoryAnchors:
    """Implements :class:`mendel.durable.Anchors`."""

    where = "memory"

    def __init__(self) -> None:
        self._anchors: dict[str, StoredAnchor] = {}

    def all(self) -> tuple[StoredAnchor, ...]:
        return tuple(self._anchors[name] for name in sorted(self._anchors))

    def newest(self) -> StoredAnchor | None:
        return self._anchors[max(self._anchors)] if self._anchors else None

    def put(self, anchor: StoredAnchor) -> None:
        if self._anchors.setdefault(anchor.name, anchor) != anchor:
            raise Conflict(f"Another anchor has the name {anchor.name}.")


class MemorySigningKeys:
    """Implements :class:`mendel.durable.SigningKeys`."""

    def __init__(self) -> None:
        self._current: bytes | None = None
        self._next: bytes | None = None

    def current(self) -> bytes | None:
        return self._current

    def create(self) -> bytes:
        self._current = self._current or new_private_key()
        return self._current

    def next(self) -> bytes | None:
        return self._next

    def prepare_next(self) -> bytes:
        self._next = self._next or new_private_key()
        return self._next

    def adopt_next(self) -> None:
        if self._next is not None:
            self._current, self._next = self._next, None
