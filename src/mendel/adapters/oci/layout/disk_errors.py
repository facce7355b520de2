"""Translate errors of a full or read-only disk into errors with a remedy."""

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
    Translate errors of a full or read-only disk; a FileNotFoundError is not translated, because it is a defect.

    Args:
        lost: The consequence for the message: ``the image was not made``.

    Raises:
        StoreUnavailable: The disk is full or read-only.
    """
    try:
        yield
    except OSError as error:
        where = error.filename or directory
        if error.errno in _FULL:
            raise StoreUnavailable(
                f"The disk of {where} is full, so {lost}.",
                remedy=(
                    "Free disk space, for example with 'mendel clean' or by deleting the cache "
                    "(MENDEL_CACHE), then try again."
                ),
            ) from error
        if error.errno in _DENIED:
            raise StoreUnavailable(
                f"Mendel has no permission to write {where}, so {lost}: {error.strerror}.",
                remedy="Change the permissions of the directory, or set MENDEL_CACHE to another cache directory.",
            ) from error
        raise


def make_directory(directory: Path) -> None:
    """
    Create the directory and its parents if missing.

    Raises:
        StoreUnavailable: The directory cannot be created.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(
            f"The directory {directory} cannot be created: {error.strerror or error}.",
            remedy="Choose a directory that you may write; MENDEL_CACHE sets the cache directory.",
        ) from error
