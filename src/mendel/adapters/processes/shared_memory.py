"""Blocks of shared memory: named whole numbers that one process writes and every process of the server reads."""

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
_HEADER: Final = struct.Struct("<8sqq")  # magic, bytes of the directory, cells given out
_DIRECTORY_AT: Final = 4096
_DIRECTORY_BYTES: Final = 1 << 20
_CELLS_AT: Final = _DIRECTORY_AT + _DIRECTORY_BYTES
CELLS: Final = 1 << 17
SPARE: Final = CELLS - 64
"""From here on, cells take what has no room: anybody may write them, nobody reads them. Cell -1 is one of them."""
_SIZE_BYTES: Final = _CELLS_AT + 8 * CELLS


class Block:
    """
    One file, mapped: a directory of series and their cells, 64 bits each.

    A cell is stored whole, so a reader sees an old or a new value, never half of one, and a killed writer leaves what
    it had counted. The directory only grows, and an entry counts once the header says so; hence no locks. The file is
    sparse: what is not used takes no memory.
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
            raise Corrupt(f"{path} is not a block of counters.", remedy="Remove it while nothing runs there.")
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
        """Unmap; the file stays."""
        self.cells.release()
        self._map.close()

    def places(self) -> dict[Series, tuple[int, int]]:
        """Every series with its first cell and its width, newly reserved ones included."""
        _, used_bytes, _ = _HEADER.unpack_from(self._map)
        if used_bytes > self._read_bytes:
            added = self._map[_DIRECTORY_AT + self._read_bytes : _DIRECTORY_AT + used_bytes]
            self._places.update(_parse(added))
            self._read_bytes = used_bytes
        return self._places

    def reserve(self, series: Series, width: int = 1) -> int:
        """The first cell of *series*, zero at first; -1 when there is no room. The writer's alone."""
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
        """Set every gauge to 0: they went with the process that wrote them."""
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
