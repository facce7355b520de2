"""Anchors of the ledger as files: in the artefact store, or as a copy in any other directory."""

from __future__ import annotations

from pathlib import Path

from mendel.durable import StoredAnchor
from mendel.errors import Conflict
from mendel.values.atomic_files import translated_disk_errors, write_atomically

_PATTERN = "[0-9]*.[cj]*"


class FileAnchors:
    """Implements :class:`mendel.durable.Anchors`: one file per anchor in *directory*, which is created on first use."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def where(self) -> str:
        return str(self._directory)

    def all(self) -> tuple[StoredAnchor, ...]:
        return tuple(_read(path) for path in self._files())

    def newest(self) -> StoredAnchor | None:
        files = self._files()
        return _read(files[-1]) if files else None

    def put(self, anchor: StoredAnchor) -> None:
        path = self._directory / anchor.name
        with translated_disk_errors(path, act="read"):
            known = path.read_bytes() if path.exists() else None
        if known is None:
            write_atomically(path, anchor.content)
        elif known != anchor.content:
            raise Conflict(
                f"The file {path} holds another anchor than the one to store.",
                remedy="Find which of the two the ledger contradicts with: mendel ledger verify",
            )

    def _files(self) -> list[Path]:
        with translated_disk_errors(self._directory, act="read"):
            return sorted(self._directory.glob(_PATTERN))


def _read(path: Path) -> StoredAnchor:
    with translated_disk_errors(path, act="read"):
        return StoredAnchor(name=path.name, content=path.read_bytes())
