"""Where a running server is found: the file ``server.json`` in its directory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from mendel.adapters.processes.listening_sockets import BoundDoor
from mendel.values import from_json, to_json
from mendel.values.atomic_files import write_atomically

_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - what a server was bound to


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """
    Where a running server is found: ``server.json`` in its directory.

    Attributes:
        epoch: That of its reports.
        ports: Those that were bound, by door.
        health_url: What answers 200 while the server lives, from this machine.
    """

    server: str
    epoch: str
    pid: int
    host: str
    ports: dict[str, tuple[int, ...]]
    health_url: str
    started: datetime

    def write(self, directory: Path) -> None:
        """Put the file in place whole."""
        write_atomically(directory / "server.json", to_json(self))

    @classmethod
    def read(cls, directory: Path) -> ServerAddress | None:
        """The address of the server of *directory*, or None where none has started; it may have died since."""
        path = directory / "server.json"
        return from_json(path.read_bytes(), cls) if path.exists() else None


def health_url(host: str, doors: Sequence[BoundDoor]) -> str:
    """The address at which a process of this machine asks the server of *doors*, bound to *host*, for its health."""
    door = next(door for door in doors if door.settings.health_path)
    near = _LOOPBACK.get(host, host)
    return f"http://{f'[{near}]' if ':' in near else near}:{door.ports[0]}{door.settings.health_path}"
