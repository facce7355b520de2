"""Blocks of shared memory with 64-bit integers; one process writes a block, every process of the server reads it."""

from __future__ import annotations

import json
import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from mendel.errors import Corrupt
from mendel.serving import Series

_MAGIC: Final = b"MENDELB1"
_HEADER: Final = struct.Struct("<8sqq")  # magic number, size of the directory in bytes, number of reserved cells
_DIRECTORY_AT: Final = 4096
_DIRECTORY_BYTES: Final = 1 << 20
_CELLS_AT: Final = _DIRECTORY_AT + _DIRECTORY_BYTES
CELLS: Final = 1 << 17
SPARE: Final = CELLS - 64
"""The first of the cells that absorb writes when a block is full; they are never read. Cell -1 is one of them."""
_SIZE_BYTES: Final = _CELLS_AT + 8 * CELLS


class Block:
    """
    A memory-mapped file: a directory of series, and their 64-bit cells.

    A cell is written in one store, so a reader sees the old or the new value, and the counts of a killed writer remain.
    The directory only grows, and an entry is valid once the header counts it, so no locks are needed. The file is
    sparse: unused parts take no memory.
    """

    def __init__(self, path: Path, *, writable: bool) -> None:
        self._path = path
        if writable and not path.exists():
            _create(path)
        with path.open("r+b" if writable else "rb") as file:
            access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
            self._map = mmap.mmap(file.fileno(), _SIZE_BYTES, access=access)
        if self._map[:8] != _MAGIC:
            self._map.close()
            raise Corrupt(
                f"The counter file {path} is damaged.",
                remedy="Stop the server, delete the file, and start the server again.",
            )
        self.cells = memoryview(self._map)[_CELLS_AT:].cast("q")
        self._read_bytes = 0
        self._places: dict[Series, tuple[int, int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Unmap the file; the file stays."""
        self.cells.release()
        self._map.close()

    def places(self) -> dict[Series, tuple[int, int]]:
        """Give the first cell and the width of every series, including newly reserved ones."""
        _, used_bytes, _ = _HEADER.unpack_from(self._map)
        if used_bytes > self._read_bytes:
            added = self._map[_DIRECTORY_AT + self._read_bytes : _DIRECTORY_AT + used_bytes]
            self._places.update(_parse(added))
            self._read_bytes = used_bytes
        return self._places

    def reserve(self, series: Series, width: int = 1) -> int:
        """
        Give the first cell of *series*, reserved with value 0 if new; -1 if the block is full. Only the writer may call
        this.
        """
        known = self.places().get(series)
        if known is not None:
            return known[0]
        _, used_bytes, given = _HEADER.unpack_from(self._map)
        entry = json.dumps([series.name, series.labels, series.gauge, given, width]).encode() + b"\n"
        if given + width > SPARE or used_bytes + len(entry) > _DIRECTORY_BYTES:
            return -1
        start = _DIRECTORY_AT + used_bytes
        self._map[start : start + len(entry)] = entry
        _HEADER.pack_into(self._map, 0, _MAGIC, used_bytes + len(entry), given + width)
        self.places()
        return int(given)

    def clear_gauges(self) -> None:
        """Set every gauge to 0 after the process that wrote the gauges has ended."""
        for series, (cell, width) in self.places().items():
            if series.gauge:
                self.cells[cell : cell + width] = memoryview(bytes(8 * width)).cast("q")


def _create(path: Path) -> None:
    draft = path.with_suffix(f".{os.getpid()}.draft")
    with draft.open("xb") as file:
        file.write(_HEADER.pack(_MAGIC, 0, 0))
        file.truncate(_SIZE_BYTES)
    draft.rename(path)


def _parse(lines: bytes) -> Iterator[tuple[Series, tuple[int, int]]]:
    for line in lines.splitlines():
        name, labels, gauge, cell, width = json.loads(line)
        yield Series(name, tuple((key, value) for key, value in labels), gauge=gauge), (cell, width)
