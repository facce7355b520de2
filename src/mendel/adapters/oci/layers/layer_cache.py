"""Cache built layers by a hash of their inputs."""

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
    """
    A cached layer; *written_ns* is the blob's modification time when it was checked, or None without a blob in the
    cache.
    """

    layer: Compressed
    written_ns: int | None


class LayerCache:
    """
    A cache of layers, shared by all projects and processes of a user.

    A record is written after its blob. A blob above 1 MiB is trusted if its size and modification time
    match the record; other blobs are hashed again, and a damaged blob counts as missing.

    Args:
        max_bytes: :meth:`trim` deletes the least recently used layers above this size.
    """

    def __init__(self, directory: Path, *, max_bytes: int = _MAX_BYTES) -> None:
        self._directory = directory
        self._blobs = Layout(directory)
        self._max_bytes = max_bytes

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Prevent every process from deleting cached layers inside the ``with`` block."""
        with self._blobs.growing():
            yield

    def find(self, key: str) -> Compressed | None:
        """Give the intact layer of *key*, or None; marks the layer as used now."""
        record = self._record(key)
        if record is None or record.written_ns is None or not self._is_whole(record):
            return None
        try:
            os.utime(self._path(key))
        except FileNotFoundError:  # another process deleted the layer in the meantime
            return None
        return record.layer

    def make(self, key: str, pieces: Iterable[bytes]) -> Compressed:
        """
        Compress *pieces* into the layer of *key*, replacing an earlier layer; if *pieces* fail, nothing is stored.
        """
        with self._blobs.writing() as file:
            layer = compress(pieces, file)
            self._blobs.keep(file, layer.digest)
        self._write(key, _Record(layer=layer, written_ns=self._blobs.path(layer.digest).stat().st_mtime_ns))
        return layer

    def path(self, layer: Compressed) -> Path:
        """Give the blob file of a layer from :meth:`find` or :meth:`make`."""
        return self._blobs.path(layer.digest)

    def recall(self, key: str) -> Compressed | None:
        """Give the sizes and digests stored by :meth:`note` under *key*, or None."""
        record = self._record(key)
        return None if record is None else record.layer

    def note(self, key: str, layer: Compressed) -> None:
        """Store the sizes and digests of a blob that is not in the cache."""
        self._write(key, _Record(layer=layer, written_ns=None))

    def trim(self) -> None:
        """Delete the least recently used layers above ``max_bytes``; does nothing while a build runs."""
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
        with suppress(FileNotFoundError, InvalidValue):  # no record, or a record of another Mendel version
            return from_json(self._path(key).read_bytes(), _Record)
        return None

    def _write(self, key: str, record: _Record) -> None:
        write_atomically(self._path(key), to_json(record))

    def _path(self, key: str) -> Path:
        return self._directory / "keys" / f"{key}.json"


def key_of(**inputs: Any) -> str:
    """Hash *inputs* with the builder's format number and the compressor version into a cache key."""
    whole = {"builder": BUILDER_FORMAT, "compressor": compressor(), "inputs": inputs}
    return hashlib.sha256(canonical_json(whole)).hexdigest()


def _time_of(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_mtime_ns
    return 0
