"""The data directory of an installation: the paths in it, and the lock that allows one hub at a time."""

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

from mendel.errors import DataDirectoryNotFound, DirectoryInUse, InvalidSettings
from mendel.values import from_json, to_json
from mendel.values.atomic_files import write_atomically

_PAUSES_S = (0.005,) * 200


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAddress:
    """The URL and the process id of a running hub, from ``hub.json``."""

    url: str
    pid: int


@dataclass(frozen=True, slots=True)
class DataDirectory:
    """The paths in the data directory *root*, by default ``./.mendel``."""

    root: Path

    @property
    def database(self) -> Path:
        """The SQLite database with registry, deployments, incidents and ledger."""
        return self.root / "mendel.db"

    @property
    def workflows(self) -> Path:
        """The database of durable workflows."""
        return self.root / "workflows.db"

    @property
    def tracking(self) -> Path:
        """The SQLite database of MLflow."""
        return self.root / "mlflow.db"

    @property
    def artifacts(self) -> Path:
        """The directory of MLflow's artefacts."""
        return self.root / "artifacts"

    @property
    def lake(self) -> Path:
        """The directory of the Delta tables of predictions and labels."""
        return self.root / "lake"

    @property
    def segments(self) -> Path:
        """The directory of received segments of the prediction log that are not in the lake yet."""
        return self.root / "segments"

    @property
    def runs(self) -> Path:
        """The directory of the files of retraining runs."""
        return self.root / "runs"

    @property
    def reports(self) -> Path:
        """The directory of rendered reports and model cards."""
        return self.root / "reports"

    @property
    def server(self) -> Path:
        """The directory of the local server: its prediction log, artefacts and last desired state."""
        return self.root / "server"

    @property
    def key(self) -> Path:
        """The file with the installation's API key, readable by its owner only."""
        return self.root / "key"

    @property
    def signing_key(self) -> Path:
        """The file with the Ed25519 key that signs anchors of the ledger."""
        return self.root / "ledger.key"

    @property
    def up_lock(self) -> Path:
        """The lock of `mendel up`, with the process id of its holder."""
        return self.root / "up.lock"

    @property
    def _lock(self) -> Path:
        return self.root / "lock"

    @property
    def _address(self) -> Path:
        return self.root / "hub.json"

    def create(self) -> None:
        """Create the data directory, readable by its owner only, if absent."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidSettings(
                f"The data directory {self.root} cannot be created: {error.strerror}.",
                remedy="Name another data directory with --directory.",
            ) from error

    def require(self) -> None:
        """
        Check that the directory has been used before; create nothing.

        Raises:
            DataDirectoryNotFound: The directory has no database; the message names a data directory above it, if any.
        """
        if _seen(self.database):
            return
        above = (place / ".mendel" for place in self.root.parent.parents)
        near = next((place for place in above if _seen(DataDirectory(place).database)), None)
        hint = "" if near is None else f" {near} has data: give --directory {near}."
        raise DataDirectoryNotFound(
            f"No model was ever registered in the data directory {self.root}, and no hub runs on it; "
            "nothing was created.",
            remedy="Change to the directory where you ran 'mendel up' or registered a model, name its data directory "
            f"with --directory, or name a hub with MENDEL_URL.{hint}",
        )

    def secret(self) -> str | None:
        """Read the installation's API key; None before the directory was opened for the first time."""
        return self.key.read_text(encoding="utf-8").strip() if self.key.exists() else None

    @contextmanager
    def key_lock(self) -> Iterator[None]:
        """Hold the lock of the key's file, so that one process at a time makes a key; waits for the others."""
        with (self.root / "key.lock").open("a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    @contextmanager
    def owned(self) -> Iterator[None]:
        """
        Hold the lock of the data directory, so that no other hub can run with the directory.

        Raises:
            DirectoryInUse: Another hub holds the lock.
        """
        self.create()
        with self._lock.open("a+") as lock:
            if not taken(lock):
                running = self.hub()
                where = f" at {running.url} (pid {running.pid})" if running else ""
                raise DirectoryInUse(
                    f"Another hub already runs on the data directory {self.root}{where}.",
                    remedy="Stop the other hub, or name another data directory with --directory.",
                )
            self._address.unlink(missing_ok=True)  # a killed hub leaves its hub.json
            yield

    def announce(self, address: HubAddress) -> None:
        """Write the URL of the hub that holds the lock into ``hub.json``."""
        write_atomically(self._address, to_json(address))

    def hub(self) -> HubAddress | None:
        """Give the address of the hub that runs with this directory; None if no hub runs or it is still starting."""
        try:
            found = from_json(self._address.read_bytes(), HubAddress)
        except FileNotFoundError:
            return None
        return found if _alive(found.pid) and _held(self._lock) else None

    def up_runs(self) -> bool:
        """Whether a `mendel up` runs with this directory."""
        return _held(self.up_lock)

    def up_pid(self) -> int | None:
        """Give the process id of the running `mendel up`; None if none runs, or it has not written its id."""
        if not self.up_runs():
            return None
        told = self.up_lock.read_text(encoding="utf-8").partition("\n")[0]
        return int(told) if told.isdigit() else None

    def up_is_ready(self, pid: int) -> bool:
        """Whether the `mendel up` with the process id *pid* has said that it is up."""
        return self.up_lock.exists() and self.up_lock.read_text(encoding="utf-8") == f"{pid}\nup"

    def server_ports(self) -> dict[str, list[int]]:
        """Give the ports of the local server by protocol (``rest``, ``grpc``, ``zmq``); empty if no server runs."""
        path = self.server / "server.json"
        if not path.exists():
            return {}
        told = json.loads(path.read_text(encoding="utf-8"))
        return told["ports"] if _alive(told["pid"]) else {}


def taken(lock: IO[str]) -> bool:
    """
    Take the exclusive lock on the file *lock*; give False if another process holds the lock for longer than 1 s.

    The retries are needed because a process that only tests the lock holds it for an instant.
    """
    for pause in (*_PAUSES_S, None):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if pause is not None:
                time.sleep(pause)
        else:
            return True
    return False


def _seen(path: Path) -> bool:
    """Whether *path* exists; False also if this user may not look."""
    try:
        return path.exists()
    except OSError:
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
