"""Files of a project, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from mendel.errors import StoreUnavailable


def write_whole(target: Path, write: Callable[[Path], object]) -> None:
    """
    Let *write* fill a file beside *target*, and then take its place; a link there is replaced, not followed.

    Whatever ends it early, an interrupt too, leaves what was there.

    Raises:
        StoreUnavailable: The disk does not take it.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        unfinished = Path(name)
        try:
            write(unfinished)
            os.fsync(descriptor)
            unfinished.chmod(0o644)
            unfinished.replace(target)
        finally:
            os.close(descriptor)
            unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"The disk does not take {target}: {error.strerror or error}.") from error
