"""A server's directory: its lock, the server id, and the place of shared memory."""

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
_SOCKET_PATH_BYTES: Final = 90  # sun_path has 108 bytes on Linux, 104 on macOS; libzmq extends names


async def lock_directory(directory: Path, *, within: timedelta) -> int:
    """
    Lock *directory* for this server; gives the file descriptor that holds the lock.

    Workers inherit the descriptor, so the lock is free only when the last worker has ended. A server that starts after
    a killed server waits for its workers, and never shares a spool or port with them.

    Raises:
        DirectoryInUse: Another server still holds the lock after *within*.
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
        f"Another server already uses the directory {directory}.",
        remedy="Stop the other server, or start this server with another --directory, and with --hub URL to serve the "
        "same models.",
    )


def server_id(directory: Path, new_id: NewId) -> str:
    """Read the server's id, or create and store a new id."""
    path = directory / "server-id"
    if not path.exists():
        write_atomically(path, f"server-{new_id()}".encode())
    return path.read_text(encoding="ascii").strip()


@contextmanager
def run_directory(directory: Path) -> Iterator[Path]:
    """
    Make an empty directory for shared memory and local sockets, deleted after the ``with`` block.

    The run directory is in *directory*, or among the temporary files if that path is too long for a socket name.
    """
    run = directory / "run"
    if run.is_symlink():  # left by a killed server
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
