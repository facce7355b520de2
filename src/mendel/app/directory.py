"""The data directory: what lies where, and who owns it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from mendel.errors import DirectoryInUse, InvalidSettings
from mendel.values import from_json, to_json
from mendel.values.atomic_files import write_atomically

_PAUSES_S = (0.005,) * 200


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAddress:
    """A running hub, as it says in ``hub.json``."""

    url: str
    pid: int


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """Paths below the root of an installation, ``./.mendel`` by default."""

    root: Path

    @property
    def database(self) -> Path:
        """The state database."""
        return self.root / "mendel.db"

    @property
    def workflows(self) -> Path:
        """The database of durable workflows."""
        return self.root / "workflows.db"

    @property
    def tracking(self) -> Path:
        """MLflow's database."""
        return self.root / "mlflow.db"

    @property
    def artifacts(self) -> Path:
        """MLflow's artefacts."""
        return self.root / "artifacts"

    @property
    def lake(self) -> Path:
        """The Delta tables of predictions and labels."""
        return self.root / "lake"

    @property
    def segments(self) -> Path:
        """Sealed segments on their way to the lake."""
        return self.root / "segments"

    @property
    def runs(self) -> Path:
        """Files of retraining runs."""
        return self.root / "runs"

    @property
    def reports(self) -> Path:
        """Rendered reports and model cards."""
        return self.root / "reports"

    @property
    def server(self) -> Path:
        """The embedded server's spool, artefacts and last desired state."""
        return self.root / "server"

    @property
    def key(self) -> Path:
        """The embedded hub's own key, readable by its owner only."""
        return self.root / "key"

    @property
    def signing_key(self) -> Path:
        """The Ed25519 key that signs the ledger's head."""
        return self.root / "ledger.key"

    @property
    def _lock(self) -> Path:
        return self.root / "lock"

    @property
    def _address(self) -> Path:
        return self.root / "hub.json"

    def create(self) -> None:
        """Make the directory, for its owner only."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidSettings(
                f"The data directory {self.root} cannot be created: {error.strerror}.",
                remedy="Name another data directory with --directory.",
            ) from error

    def secret(self) -> str | None:
        """The installation's own key; None before the directory was opened for the first time."""
        return self.key.read_text(encoding="utf-8").strip() if self.key.exists() else None

    @contextmanager
    def owned(self) -> Iterator[None]:
        """
        Hold the directory alone, as a hub does.

        Raises:
            DirectoryInUse: Another hub holds it.
        """
        self.create()
        with self._lock.open("a+") as lock:
            if not _taken(lock):
                running = self.hub()
                where = f" at {running.url} (pid {running.pid})" if running else ""
                raise DirectoryInUse(
                    f"Another hub already runs on the data directory {self.root}{where}.",
                    remedy="Stop the other hub, or name another data directory with --directory.",
                )
            self._address.unlink(missing_ok=True)  # what a killed hub left
            yield

    def announce(self, address: HubAddress) -> None:
        """Say where the hub that owns the directory answers."""
        write_atomically(self._address, to_json(address))

    def hub(self) -> HubAddress | None:
        """The hub that owns the directory now, or None when nobody does, or it does not answer yet."""
        try:
            found = from_json(self._address.read_bytes(), HubAddress)
        except FileNotFoundError:
            return None
        return found if _alive(found.pid) and _held(self._lock) else None

    def server_ports(self) -> dict[str, list[int]]:
        """The ports the embedded server listens on, by door; empty when none runs."""
        path = self.server / "server.json"
        if not path.exists():
            return {}
        told = json.loads(path.read_text(encoding="utf-8"))
        return told["ports"] if _alive(told["pid"]) else {}


def _taken(lock: IO[str]) -> bool:
    """Take *lock* alone; whoever looks whether it is held holds it too, for an instant, and is waited for."""
    for pause in (*_PAUSES_S, None):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if pause is not None:
                time.sleep(pause)
        else:
            return True
    return False


def _held(lock: Path) -> bool:
    if not lock.exists():
        return False
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
