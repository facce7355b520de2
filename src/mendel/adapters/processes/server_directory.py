"""A server's own directory: who holds it, what it is called, and where its shared memory lies."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

from mendel.durable import NewId
from mendel.errors import DirectoryInUse
from mendel.values.atomic_files import write_atomically

_RETRY_S: Final = 0.05
_SOCKET_PATH_BYTES: Final = 90  # sun_path holds 108 on Linux, 104 on macOS; libzmq adds to a name


async def lock_directory(directory: Path, *, within: timedelta) -> int:
    """
    Take the lock of *directory*; gives the descriptor that holds it.

    Workers inherit the descriptor, so the lock is free only when the last of them is gone: a server that starts right
    after one that was killed waits for its workers to die, and never shares a spool or a port with them.

    Raises:
        DirectoryInUse: Somebody still holds it after *within*.
    """
    os.makedirs(directory, exist_ok=True)  # noqa: PTH103 - once, at the start, and pathlib is refused in async code
    lock = os.open(directory / "server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(max(1, round(within.total_seconds() / _RETRY_S))):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            await asyncio.sleep(_RETRY_S)
        else:
            return lock
    os.close(lock)
    raise DirectoryInUse(
        f"A server already runs on {directory}.", remedy="Stop it, or give this one a directory of its own."
    )


def server_id(directory: Path, new_id: NewId) -> str:
    """The server's id, made once and kept."""
    path = directory / "server-id"
    if not path.exists():
        write_atomically(path, f"server-{new_id()}".encode())
    return path.read_text(encoding="ascii").strip()


@contextmanager
def run_directory(directory: Path) -> Iterator[Path]:
    """
    An empty directory for shared memory and local sockets, removed in the end.

    It lies in *directory*, or, where that path is too long for a socket's name, among the temporary files.
    """
    run = directory / "run"
    if run.is_symlink():  # left by a server that was killed
        shutil.rmtree(run.resolve(), ignore_errors=True)
        run.unlink()
    shutil.rmtree(run, ignore_errors=True)
    if len(os.fsencode(run.absolute())) > _SOCKET_PATH_BYTES:
        run.symlink_to(tempfile.mkdtemp(prefix="mendel-"))
    else:
        run.mkdir(mode=0o700)
    place = run.resolve()
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if run.is_symlink():
            run.unlink()
