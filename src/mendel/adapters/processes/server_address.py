"""What a running server tells programs on its machine: its address, and the models that it serves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from mendel.adapters.processes.listening_sockets import BoundDoor
from mendel.values import ModelConvergence, from_json, to_json
from mendel.values.atomic_files import replacing, write_atomically

_SERVING: Final = "serving.json"
_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - what a server was bound to


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """
    The address of a running server, as stored in ``server.json``.

    Attributes:
        epoch: The epoch id in the server's reports.
        ports: The bound ports, by door.
        health_url: The URL that answers 200 on this machine while the server is running.
    """

    server: str
    epoch: str
    pid: int
    host: str
    ports: dict[str, tuple[int, ...]]
    health_url: str
    started: datetime

    def write(self, directory: Path) -> None:
        """Write the file atomically."""
        write_atomically(directory / "server.json", to_json(self))

    @classmethod
    def read(cls, directory: Path) -> ServerAddress | None:
        """
        Read the address of the server of *directory*; None if no server has started there. The server may have died
        since.
        """
        path = directory / "server.json"
        return from_json(path.read_bytes(), cls) if path.exists() else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingState:
    """
    The state of a server's models, as stored in ``serving.json``.

    Attributes:
        epoch: The epoch id of the server that wrote the state; another epoch's file is out of date.
        current: False while the server knows only the desired state of its former run.
        models: The convergence of each deployed model.
    """

    epoch: str
    current: bool
    models: tuple[ModelConvergence, ...]

    def write(self, directory: Path) -> None:
        """Write the file atomically; it is not flushed to the disk, because a new run writes it anew."""
        with replacing(directory / _SERVING, flush=False) as draft:
            draft.write_bytes(to_json(self))

    @staticmethod
    def change(directory: Path) -> tuple[int, int, int] | None:
        """Give a value that differs after each change of the file; None without a file."""
        try:
            told = (directory / _SERVING).stat()
        except FileNotFoundError:
            return None
        return told.st_ino, told.st_mtime_ns, told.st_size

    @classmethod
    def read(cls, directory: Path, epoch: str) -> ServingState | None:
        """Read the state of the server run *epoch*; None before that run has written one."""
        path = directory / _SERVING
        state = from_json(path.read_bytes(), cls) if path.exists() else None
        return state if state is not None and state.epoch == epoch else None


def health_url(host: str, doors: Sequence[BoundDoor]) -> str:
    """Make the health check URL for use on this machine of a server that is bound to *host* with *doors*."""
    door = next(door for door in doors if door.settings.health_path)
    near = _LOOPBACK.get(host, host)
    return f"http://{f'[{near}]' if ':' in near else near}:{door.ports[0]}{door.settings.health_path}"
