"""Unpacked layers, kept: what does not change between two builds is not unpacked twice."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from mendel.adapters.oci.documents import Descriptor
from mendel.adapters.oci.layout import UNFINISHED, Layout
from mendel.adapters.oci.unpacking import unpack
from mendel.values import Digest

_GRACE_SECONDS = 60
_FORMAT = 1

Layers = Sequence[tuple[Descriptor, Digest]]
"""Layers, bottom up, each with the digest of the tar inside."""


class UnpackedLayers:
    """
    Trees of unpacked layers below one directory, by the digests of the layers.

    A tree appears by a rename when it is whole. Who uses one holds a shared lock on it; the trees unused for longest
    go when there are more than *keep*, except while they are used.
    """

    def __init__(self, directory: Path, *, keep: int = 6) -> None:
        self._directory = directory
        self._keep = keep

    @contextmanager
    def tree(self, layout: Layout, layers: Layers) -> Iterator[Path]:
        """
        The directory of one tree: ``root`` holds the unpacked *layers*, and is not to be changed.

        Raises:
            DigestMismatch, Corrupt, Unsupported: A layer cannot be unpacked.
        """
        path = self._directory / self._key(layers)
        while True:
            if not path.is_dir():
                self._make(path, layout, layers)
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

    def _make(self, path: Path, layout: Layout, layers: Layers) -> None:
        with self.scratch() as scratch:
            whole = scratch / "tree"
            (whole / "root").mkdir(parents=True)
            (whole / "root").chmod(0o755)  # a container's user may look into its root, whatever this process's mask
            for layer, diff_id in layers:
                unpack(layout, layer, diff_id, whole / "root")
            with suppress(OSError):  # somebody else was faster, and theirs is the same
                whole.rename(path)
        self._trim()

    def _trim(self) -> None:
        trees = [path for path in self._directory.iterdir() if not path.name.startswith(".") and path.is_dir()]
        for path in sorted(trees, key=_time_of, reverse=True)[self._keep :]:
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
