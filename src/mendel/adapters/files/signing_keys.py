"""The private keys that sign checkpoints of the ledger, as files that only their owner can read."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from mendel.durable.signatures import new_private_key
from mendel.values.atomic_files import translated_disk_errors, write_atomically


class FileSigningKeys:
    """Implements :class:`mendel.durable.SigningKeys`: the key in *file*, and the prepared one in ``<file>.next``."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._next = file.with_name(f"{file.name}.next")

    def current(self) -> bytes | None:
        return _read(self._file)

    def create(self) -> bytes:
        return _made(self._file)

    def next(self) -> bytes | None:
        return _read(self._next)

    def prepare_next(self) -> bytes:
        return _made(self._next)

    def adopt_next(self) -> None:
        with translated_disk_errors(self._file, act="written"):
            if self._next.exists():
                self._next.replace(self._file)


def _read(file: Path) -> bytes | None:
    with translated_disk_errors(file, act="read"):
        return file.read_bytes() if file.exists() else None


def _made(file: Path) -> bytes:
    """Give the key in *file*, and make it if absent; of several processes that make it, the first one wins."""
    if (known := _read(file)) is not None:
        return known
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        write_atomically(draft, new_private_key(), mode=0o600)
        with translated_disk_errors(file, act="written"), suppress(FileExistsError):
            file.hardlink_to(draft)
    finally:
        draft.unlink(missing_ok=True)
    return file.read_bytes()
