"""Files that are there after a power loss, and the disk's errors in our words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mendel.errors import StoreUnavailable


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """
    Turn what the disk says about *path* into Mendel's words.

    Raises:
        StoreUnavailable: It is full, gone, or not ours to write.
    """
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(f"The disk does not take {path}: {error.strerror or error}.") from error


def sync_directory(directory: Path) -> None:
    """Flush the names in *directory* to disk."""
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
