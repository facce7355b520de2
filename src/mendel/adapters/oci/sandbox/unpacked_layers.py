"""Cache unpacked layers, so that unchanged layers are unpacked once."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from mendel.adapters.oci.layers.unpacking import unpack
from mendel.adapters.oci.layout.layout import UNFINISHED, Layout
from mendel.images.manifests import Descriptor
from mendel.values import Digest

_GRACE_SECONDS = 60
_FORMAT = 2
_SIZE = "size"
_THREADS = 2

Layers = Sequence[tuple[Descriptor, Digest]]
"""Layers, lowest first, each with the digest of its uncompressed tar."""


class UnpackedLayers:
    """
    Directories of unpacked layers, by the digests of the layers.

    A directory gets its name when it is complete. Users of a directory hold a shared lock. When a directory is added,
    the least recently used unlocked directories are deleted until both limits are met.
    """

    def __init__(self, directory: Path, *, most: int = 8, max_bytes: int = 16 << 30) -> None:
        self._directory = directory
        self._most = most
        self._max_bytes = max_bytes

    @contextmanager
    def tree(self, layout: Layout, layers: Layers, *, apart: int = 0) -> Iterator[Path]:
        """
        Give the directory whose subdirectory ``root`` has the unpacked *layers*; callers must not change ``root``.

        Args:
            apart: The number of upper layers that have no common file and are unpacked in parallel.

        Raises:
            DigestMismatch, Corrupt, Unsupported: A layer is damaged or has an unsupported compression.
        """
        path = self._directory / self._key(layers)
        while True:
            if not path.is_dir():
                self._make(path, layout, layers, apart)
            with _locked(path, fcntl.LOCK_SH) as is_there:
                if is_there:
                    os.utime(path)
                    yield path
                    return

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """
        Make an empty temporary directory, deleted after the ``with`` block; a later call deletes those of killed
        processes.
        """
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._sweep()
        path = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=self._directory))
        try:
            with _locked(path, fcntl.LOCK_EX):
                yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _make(self, path: Path, layout: Layout, layers: Layers, apart: int) -> None:
        with self.scratch() as scratch:
            whole = scratch / "tree"
            (whole / "root").mkdir(parents=True)
            (whole / "root").chmod(0o755)  # the user in the container needs read access, whatever the umask is
            place = len(layers) - apart
            size = sum(unpack(layout, layer, diff_id, whole / "root") for layer, diff_id in layers[:place])
            with ThreadPoolExecutor(_THREADS, "unpack") as pool:
                sizes = pool.map(lambda one: unpack(layout, one[0], one[1], whole / "root"), layers[place:])
                size += sum(sizes)
            (whole / _SIZE).write_text(str(size))
            try:
                whole.rename(path)
            except OSError:
                if not path.is_dir():  # otherwise another process made the same directory first
                    raise
        self._trim()

    def _trim(self) -> None:
        sizes = {path.parent: int(path.read_text()) for path in self._directory.glob(f"[!.]*/{_SIZE}")}
        newest_first, total = sorted(sizes, key=_time_of, reverse=True), 0
        for number, path in enumerate(newest_first):
            total += sizes[path]
            if number == 0 or (number < self._most and total <= self._max_bytes):
                continue
            with (
                suppress(BlockingIOError, FileNotFoundError),
                _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB),
                self.scratch() as scratch,
            ):
                path.rename(scratch / "old")

    def _sweep(self) -> None:
        for path in self._directory.glob(f"{UNFINISHED}*"):
            with suppress(BlockingIOError, FileNotFoundError):
                if time.time() - path.stat().st_mtime > _GRACE_SECONDS:
                    with _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB):
                        shutil.rmtree(path, ignore_errors=True)

    def _key(self, layers: Layers) -> str:
        chain = "\n".join([f"{_FORMAT} {os.geteuid() == 0}", *(diff_id for _, diff_id in layers)])
        return hashlib.sha256(chain.encode()).hexdigest()


@contextmanager
def _locked(path: Path, operation: int) -> Iterator[bool]:
    """Lock the directory *path*; gives False if the directory was deleted or replaced while waiting."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(descriptor, operation)
        held = os.fstat(descriptor)
        there = path.stat() if path.is_dir() else None
        yield there is not None and there.st_ino == held.st_ino
    finally:
        os.close(descriptor)


def _time_of(path: Path) -> float:
    with suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0
