"""Disks that are full or may not be written, told as what they are."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mendel.errors import StoreUnavailable

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def translated_write_errors(directory: Path, *, lost: str) -> Iterator[None]:
    """
    Turn what the disk of *directory* says into an error for people; a missing file stays a defect.

    Args:
        lost: What does not come about: ``the image was not made``.

    Raises:
        StoreUnavailable: The disk is full, or nobody may write there.
    """
    try:
        yield
    except OSError as error:
        where = error.filename or directory
        if error.errno in _FULL:
            raise StoreUnavailable(
                f"The disk of {where} is full, so {lost}.",
                remedy="Free some room (mendel clean, or the cache's directory), and try again.",
            ) from error
        if error.errno in _DENIED:
            raise StoreUnavailable(
                f"{where} may not be written, so {lost}: {error.strerror}.",
                remedy="Give it to yourself, or name another cache in MENDEL_CACHE.",
            ) from error
        raise


def make_directory(directory: Path) -> None:
    """
    Make it with those above it, if it is not there.

    Raises:
        StoreUnavailable: There can be none.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(
            f"There can be no directory {directory}: {error.strerror or error}.",
            remedy="Name a place of yours; that of the cache stands in MENDEL_CACHE.",
        ) from error
