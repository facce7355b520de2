"""Unpacked layers, kept: what does not change between two builds is not unpacked twice."""

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
"""Layers, bottom up, each with the digest of the tar inside."""


class UnpackedLayers:
    """
    Trees of unpacked layers below one directory, by the digests of the layers.

    A tree appears by a rename when it is whole. Who uses one holds a shared lock on it; when one is added, the trees
    unused for longest go until the others are within both bounds, except those in use.
    """

    def __init__(self, directory: Path, *, most: int = 8, max_bytes: int = 16 << 30) -> None:
        self._directory = directory
        self._most = most
        self._max_bytes = max_bytes

    @contextmanager
    def tree(self, layout: Layout, layers: Layers, *, apart: int = 0) -> Iterator[Path]:
        """
        The directory of one tree: ``root`` holds the unpacked *layers*, and is not to be changed.

        Args:
            apart: So many of the topmost layers share no file with each other, and may be unpacked at the same time.

        Raises:
            DigestMismatch, Corrupt, Unsupported: A layer cannot be unpacked.
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
        """An empty directory beside the trees; it vanishes with the block, or with the next one after a kill."""
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
            (whole / "root").chmod(0o755)  # a container's user may look into its root, whatever this process's mask
            place = len(layers) - apart
            size = sum(unpack(layout, layer, diff_id, whole / "root") for layer, diff_id in layers[:place])
            with ThreadPoolExecutor(_THREADS, "unpack") as pool:
                sizes = pool.map(lambda one: unpack(layout, one[0], one[1], whole / "root"), layers[place:])
                size += sum(sizes)
            (whole / _SIZE).write_text(str(size))
            try:
                whole.rename(path)
            except OSError:
                if not path.is_dir():  # else somebody was faster, and theirs is the same
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
    """A lock on the directory *path*; gives whether it still has its name."""
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
