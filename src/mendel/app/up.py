"""Run a hub and a server on one machine and restart them when they end, for `mendel up`."""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import httpx

from mendel.app.directory import DataDirectory
from mendel.app.server.serve_options import find_project
from mendel.app.settings import Settings
from mendel.errors import DirectoryInUse, Unavailable
from mendel.resilience import RetryPolicy, TryAgain, decide_retry

_RETRY = RetryPolicy(attempts=sys.maxsize)
_STEADY_S = 30.0
_START_S = 60.0
_POLL_S = 0.05
_PATIENCE_S = 10.0


@dataclass(slots=True)
class _Part:
    """The process of the hub or the server; ``failures`` counts its consecutive unexpected ends."""

    name: str
    arguments: tuple[str, ...]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    due: float = 0.0

    def start(self, environment: Mapping[str, str]) -> None:
        command = [sys.executable, "-P", "-m", "mendel.app.cli", *self.arguments, "--parent", str(os.getpid())]
        # In a group of its own, so that a terminal's Ctrl-C reaches only this supervisor, which stops the server first.
        self.process = subprocess.Popen(  # noqa: S603 - our own CLI
            command, env=environment, stdin=subprocess.DEVNULL, process_group=0
        )
        self.started = time.monotonic()

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None


@dataclass(slots=True)
class Pair:
    """
    Runs a hub and a server, and restarts a process that ends, after a pause that grows with each failure.

    If a process ends before both were ready, the pair stops; the process has printed the reason, for example a port
    that is in use.

    Args:
        environment: The environment variables of both processes.
        project: The directory of the project to serve; None uses the project that contains the working directory.
        say: Prints a line for the user.
    """

    settings: Settings
    environment: Mapping[str, str]
    project: str | None
    say: Callable[[str], None]
    rng: random.Random = field(default_factory=random.Random)
    _stopping: bool = False

    def run(self) -> int:
        """
        Run until SIGTERM or SIGINT, and give the exit code.

        Raises:
            ProjectNotFound, InvalidProject: The project does not exist or cannot be read; no process was started.
        """
        find_project(Path(self.project) if self.project else None)
        serve = ("serve", *(("--path", self.project) if self.project else ()))
        hub, server = _Part("hub", ("hub",)), _Part("server", serve)
        with _alone(DataDirectory(self.settings.root)), _signals(self._stop):
            try:
                hub.start(self.environment)
                self._await(hub, self._hub_answers)
                server.start(self.environment)
                self._await(server, lambda: bool(DataDirectory(self.settings.root).server_ports()))
                self._announce()
                self._keep(hub, server)
            finally:
                _end(server)
                _end(hub)
        return 0

    def _stop(self) -> None:
        self._stopping = True

    def _hub_answers(self) -> bool:
        running = DataDirectory(self.settings.root).hub()
        if running is None:
            return False
        try:
            return httpx.get(f"{running.url}/ready", timeout=1.0).is_success
        except httpx.TransportError:
            return False

    def _await(self, part: _Part, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + _START_S
        while not self._stopping and not ready():
            if not part.alive:
                raise Unavailable(
                    f"The {part.name} did not start.", remedy=f"Read the error message of the {part.name} above."
                )
            if time.monotonic() > end:
                raise Unavailable(
                    f"The {part.name} was not ready after {_START_S:.0f} s.",
                    remedy="Read the log above, then try again.",
                )
            time.sleep(_POLL_S)

    def _announce(self) -> None:
        data = DataDirectory(self.settings.root)
        running, ports = data.hub(), data.server_ports()
        self.say(f"hub     {running.url if running else '-'}")
        for door, numbers in sorted(ports.items()):
            self.say(f"{door:<7} {', '.join(f'{self.settings.serving.host}:{number}' for number in numbers)}")
        self.say(f"data    {self.settings.root}")
        self.say("Mendel is up. Stop it with Ctrl-C.")

    def _keep(self, *parts: _Part) -> None:
        while not self._stopping:
            now = time.monotonic()
            for part in parts:
                if not part.alive:
                    self._revive(part, now)
                elif now - part.started > _STEADY_S:
                    part.failures = 0
            time.sleep(_POLL_S)

    def _revive(self, part: _Part, now: float) -> None:
        if part.process is not None:
            part.failures += 1
            match decide_retry(_RETRY, part.failures, self.rng):
                case TryAgain(after=pause):
                    part.due = now + pause.total_seconds()
                case _:
                    part.due = now
            self.say(f"The {part.name} ended with exit code {part.process.returncode} and is started again.")
            part.process = None
        elif now >= part.due:
            part.start(self.environment)


def _end(part: _Part) -> None:
    if part.process is None or part.process.poll() is not None:
        return
    part.process.terminate()
    try:
        part.process.wait(timeout=_PATIENCE_S + _START_S)
    except subprocess.TimeoutExpired:
        part.process.kill()
        part.process.wait()


@contextmanager
def _alone(data: DataDirectory) -> Iterator[None]:
    data.create()
    with (data.root / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DirectoryInUse(
                f"Another 'mendel up' already runs on the data directory {data.root}.",
                remedy="Stop the other 'mendel up', or name another data directory with --directory.",
            ) from error
        yield


@contextmanager
def _signals(stop: Callable[[], None]) -> Iterator[None]:
    def on_signal(_: int, __: FrameType | None) -> None:
        stop()

    former = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
