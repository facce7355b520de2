"""Files that are replaced whole: readers see the old content or the new, and a crash leaves one of them."""

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
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "Free some room on that disk and try again."),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "Give yourself the right to write there."),
}


@contextmanager
def translated_disk_errors(path: Path, *, act: Literal["read", "written"]) -> Iterator[None]:
    """
    Turn operating-system errors about *path* into errors for people.

    Args:
        act: What the block does with *path*; the message says that it cannot be done.

    Raises:
        StoreUnavailable: The disk is full or gone, or this user has no right to the path.
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
    Give an empty file beside *path* to fill; it takes the place of *path* when the block ends without an error.

    Nobody but the owner can read the content before *mode* is set. A symbolic link at *path* is replaced, not followed.
    Several writers may replace one file at once; the last one stays.

    Args:
        parents: Make the directory of *path* where there is none.
        flush: Write the content through to the disk before the rename, so that a power cut leaves the old content or
            the new; files that can be made again do without.

    Raises:
        StoreUnavailable: The disk refuses; *path* is as it was.
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
