"""Replace files atomically: readers, also after a crash, see either the old content or the new content."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from mendel.errors import StoreUnavailable

_REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free disk space and try again."),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM, errno.EROFS), "Change the permissions of the path, or choose another path."
    ),
}


@contextmanager
def translated_disk_errors(path: Path, *, act: Literal["read", "written"]) -> Iterator[None]:
    """
    Convert operating-system errors of the ``with`` block to an error that names *path* and a remedy.

    Args:
        act: The verb of the message: "*path* cannot be read" or "*path* cannot be written".

    Raises:
        StoreUnavailable: The disk is full or not available, or this user has no permission for the path.
    """
    try:
        yield
    except OSError as error:
        raise StoreUnavailable(
            f"{path} cannot be {act}: {error.strerror or error}.", remedy=_REMEDIES.get(error.errno or 0, "")
        ) from error


@contextmanager
def replacing(path: Path, *, mode: int = 0o644, parents: bool = True, flush: bool = True) -> Iterator[Path]:
    """
    Give an empty temporary file; when the ``with`` block ends without an error, the file replaces *path*.

    Until then, only the owner can read the file. A symbolic link at *path* is replaced, not followed. If several
    writers replace a file at the same time, the last one wins.

    Args:
        parents: Create the directory of *path* if it is missing.
        flush: Flush the content to the disk before the replacement, so that a power loss leaves the old or the new
            content. Not needed for files that can be made again.

    Raises:
        StoreUnavailable: The file cannot be written; *path* is unchanged.
    """
    with translated_disk_errors(path, act="written"):
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        draft = Path(name)
        try:
            yield draft
            if flush:
                os.fsync(descriptor)
            draft.chmod(mode)
            draft.replace(path)
        finally:
            os.close(descriptor)
            draft.unlink(missing_ok=True)


def write_atomically(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Replace the content of *path*, as :func:`replacing` does."""
    with replacing(path, mode=mode) as draft:
        draft.write_bytes(content)
