"""Layers that were made before, by what they were made of."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mendel.adapters.oci.layers.compression import Compressed, compress, compressor
from mendel.adapters.oci.layout.layout import Layout
from mendel.errors import InvalidValue
from mendel.images import BUILDER_FORMAT
from mendel.images.manifests import canonical_json
from mendel.values import Digest, from_json, to_json
from mendel.values.atomic_files import write_atomically
from mendel.values.directory_trees import file_digest

_CHEAP_BYTES = 1 << 20
_MAX_BYTES = 20 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    """*written_ns*: the blob's time of modification when it was known to be whole; None where there is no blob."""

    layer: Compressed
    written_ns: int | None


class LayerCache:
    """
    Layers by key, in one directory that every project and process of a user shares.

    A record appears by a rename after its blob did. A blob is trusted while its size and time are those of its record;
    small ones and those whose time moved are hashed again; one that is damaged counts as absent and is made anew.

    Args:
        max_bytes: After something was added, the layers unused for longest go until the others fit.
    """

    def __init__(self, directory: Path, *, max_bytes: int = _MAX_BYTES) -> None:
        self._directory = directory
        self._blobs = Layout(directory)
        self._max_bytes = max_bytes

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While this is open, in any process, nothing that was found vanishes."""
        with self._blobs.growing():
            yield

    def find(self, key: str) -> Compressed | None:
        """The layer of *key*, whole, or None; finding is a use."""
        record = self._record(key)
        if record is None or record.written_ns is None or not self._is_whole(record):
            return None
        try:
            os.utime(self._path(key))
        except FileNotFoundError:  # trimmed meanwhile
            return None
        return record.layer

    def make(self, key: str, pieces: Iterable[bytes]) -> Compressed:
        """Compress *pieces* into the layer of *key*, whatever was there before; nothing stays when they fail."""
        with self._blobs.writing() as file:
            layer = compress(pieces, file)
            self._blobs.keep(file, layer.digest)
        self._write(key, _Record(layer=layer, written_ns=self._blobs.path(layer.digest).stat().st_mtime_ns))
        return layer

    def path(self, layer: Compressed) -> Path:
        """The blob of a layer that was found or made."""
        return self._blobs.path(layer.digest)

    def recall(self, key: str) -> Compressed | None:
        """What was once noted under *key* of a blob that lies elsewhere."""
        record = self._record(key)
        return None if record is None else record.layer

    def note(self, key: str, layer: Compressed) -> None:
        """Remember the sizes and digests of a blob that lies elsewhere."""
        self._write(key, _Record(layer=layer, written_ns=None))

    def trim(self) -> None:
        """Let the layers go that were unused for longest, until the others fit; not while any build runs."""
        kept, size = set[Digest](), 0
        for path in sorted(self._directory.glob("keys/*.json"), key=_time_of, reverse=True):
            record = self._record(path.stem)
            if record is None or record.written_ns is None or record.layer.digest in kept:
                continue
            size += record.layer.size
            if size <= self._max_bytes:
                kept.add(record.layer.digest)
            else:
                path.unlink(missing_ok=True)
        self._blobs.sweep(kept)

    def _is_whole(self, record: _Record) -> bool:
        if not self._blobs.has(record.layer.digest):
            return False
        path = self._blobs.path(record.layer.digest)
        status = path.stat()
        if status.st_size != record.layer.size:
            return False
        if status.st_size > _CHEAP_BYTES and status.st_mtime_ns == record.written_ns:
            return True
        return file_digest(path) == record.layer.digest

    def _record(self, key: str) -> _Record | None:
        with suppress(FileNotFoundError, InvalidValue):  # never made, or by another Mendel
            return from_json(self._path(key).read_bytes(), _Record)
        return None

    def _write(self, key: str, record: _Record) -> None:
        write_atomically(self._path(key), to_json(record))

    def _path(self, key: str) -> Path:
        return self._directory / "keys" / f"{key}.json"


def key_of(**inputs: Any) -> str:
    """The key of what is made of *inputs* by this builder with this compressor."""
    whole = {"builder": BUILDER_FORMAT, "compressor": compressor(), "inputs": inputs}
    return hashlib.sha256(canonical_json(whole)).hexdigest()


def _time_of(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_mtime_ns
    return 0
