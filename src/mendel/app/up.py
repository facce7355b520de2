"""Run a hub and a server on one machine and restart them when they end, for `mendel up`."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from types import FrameType
from typing import TextIO

import httpx

from mendel.app.directory import DataDirectory, taken
from mendel.app.progress import Progress, showing
from mendel.app.server.serve_options import find_project
from mendel.app.serving_news import ServingNews
from mendel.app.settings import Settings
from mendel.errors import DirectoryInUse, Unavailable
from mendel.resilience import RetryPolicy, TryAgain, decide_retry

_RETRY = RetryPolicy(attempts=sys.maxsize)
_STEADY_S = 30.0
_START_S = 60.0
_POLL_S = 0.05
_KEEP_S = 0.2
_PATIENCE_S = 10.0
_NOTHING_DEPLOYED = "No model is in production yet; the server answers as soon as one is promoted."


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
    _signals: int = 0

    def run(self) -> int:
        """
        Run until SIGTERM or SIGINT, and give the exit code.

        Raises:
            ProjectNotFound, InvalidProject: The project does not exist or cannot be read; no process was started.
        """
        find_project(Path(self.project) if self.project else None)
        serve = ("serve", *(("--path", self.project) if self.project else ()))
        hub, server = _Part("hub", ("hub",)), _Part("server", serve)
        data = DataDirectory(self.settings.root)
        news = ServingNews(data)
        with _alone(data) as ready, _heard(self._on_signal):
            try:
                with showing("Starting the hub", stream=sys.stderr, moving=False) as shown:
                    hub.start(self.environment)
                    self._await(hub, lambda: _hub_answers(data))
                    shown.phase("Starting the server")
                    server.start(self.environment)
                    self._await(server, lambda: news.started)
                    self._await_models(news, shown, hub, server)
                if not self._stopping:
                    self._announce(data, news)
                    ready()
                while not self._stopping:
                    self._keep(news, hub, server)
                    time.sleep(_KEEP_S)
            finally:
                self._end(hub, server)
        return 0

    @property
    def _stopping(self) -> bool:
        return self._signals > 0

    def _on_signal(self) -> None:
        self._signals += 1

    def _await(self, part: _Part, ready: Callable[[], bool]) -> None:
        end = time.monotonic() + _START_S
        while not self._stopping and not ready():
            _require_alive(part)
            if time.monotonic() > end:
                raise Unavailable(
                    f"The {part.name} was not ready after {_START_S:.0f} s.",
                    remedy="Read the log above, then try again.",
                )
            time.sleep(_POLL_S)

    def _await_models(self, news: ServingNews, shown: Progress, *parts: _Part) -> None:
        """Wait until every deployed model serves, or has told why it does not; start again what ends meanwhile."""
        shown.phase("Asking the hub for the deployed models")
        while not self._stopping:
            self._keep(news, *parts)
            if news.decided:
                return
            if waiting := news.waiting:
                shown.phase(f"Loading {', '.join(waiting)}")
            time.sleep(_POLL_S)

    def _announce(self, data: DataDirectory, news: ServingNews) -> None:
        running, ports = data.hub(), data.server_ports()
        self.say(f"hub     {running.url if running else '-'}")
        for door, numbers in sorted(ports.items()):
            addresses = ", ".join(f"{self.settings.serving.host}:{number}" for number in numbers)
            self.say(f"{door:<7} {addresses or 'off'}")
        self.say(f"data    {self.settings.root}")
        if not news.deployed:
            self.say(_NOTHING_DEPLOYED)
        self.say("Mendel is up. Stop it with Ctrl-C.")

    def _keep(self, news: ServingNews, *parts: _Part) -> None:
        """Start again what has ended, and say what is new."""
        now = time.monotonic()
        for part in parts:
            if not part.alive:
                self._revive(part, now)
            elif now - part.started > _STEADY_S:
                part.failures = 0
        for line in news.lines():
            self.say(line)

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

    def _end(self, hub: _Part, server: _Part) -> None:
        """Stop the server, then the hub, to which the server sends its last report; a second signal kills both."""
        drain_s = self.settings.serving.drain_timeout.total_seconds()
        self._stop(server, "it finishes its requests", within_s=drain_s + _PATIENCE_S)
        self._stop(hub, "it finishes its running steps", within_s=_START_S)

    def _stop(self, part: _Part, what: str, *, within_s: float) -> None:
        if part.process is None or not part.alive:
            return
        part.process.terminate()
        end = time.monotonic() + within_s
        with showing(f"Stopping the {part.name}: {what}", stream=sys.stderr, moving=False) as shown:
            while part.alive and time.monotonic() < end and self._signals <= 1:
                time.sleep(_POLL_S)
            if part.alive:
                shown.phase(f"Killing the {part.name}")
                part.process.kill()
                part.process.wait()


def _hub_answers(data: DataDirectory) -> bool:
    running = data.hub()
    if running is None:
        return False
    try:
        return httpx.get(f"{running.url}/ready", timeout=1.0).is_success
    except httpx.TransportError:
        return False


def _require_alive(part: _Part) -> None:
    if not part.alive:
        raise Unavailable(f"The {part.name} did not start.", remedy=f"Read the error message of the {part.name} above.")


@contextmanager
def _alone(data: DataDirectory) -> Iterator[Callable[[], None]]:
    """
    Hold the lock of `mendel up` on *data*; the lock's file has the process id.

    The ``with`` statement gives the function that notes in the file that hub and server are up.
    """
    data.create()
    with data.up_lock.open("a+") as lock:
        if not taken(lock):
            raise _in_use(data)

        def note(text: str) -> None:
            lock.write(text)
            lock.flush()

        lock.truncate(0)
        note(str(os.getpid()))
        try:
            yield lambda: note("\nup")
        finally:
            lock.truncate(0)


def _in_use(data: DataDirectory) -> DirectoryInUse:
    return DirectoryInUse(
        f"Another 'mendel up' already runs on the data directory {data.root}.",
        remedy="Stop the other 'mendel up' with 'mendel down', or name another data directory with --directory.",
    )


def start_in_background(
    settings: Settings, environment: Mapping[str, str], project: str | None, say: Callable[[str], None]
) -> int:
    """
    Start `mendel up` as a process of its own, wait until every deployed model serves, and give the exit code.

    The code is 1 if a model cannot be loaded; hub and server then run on.

    Raises:
        DirectoryInUse: Another `mendel up` runs on the data directory.
        Unavailable: The process ended before everything was decided; the message has its errors.
    """
    data = DataDirectory(settings.root)
    data.create()
    if data.up_runs():
        raise _in_use(data)
    news = ServingNews(data)
    log = data.root / "up.log"
    command = [sys.executable, "-P", "-m", "mendel.app.cli", "up", *(("--path", project) if project else ())]
    with log.open("wb") as written:
        process = subprocess.Popen(  # noqa: S603 - our own CLI
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        with showing(f"Waiting until every deployed model serves; the log is {log}", stream=sys.stderr, moving=False):
            while not data.up_is_ready(process.pid):
                if process.poll() is not None:
                    raise Unavailable(
                        f"'mendel up' ended with exit code {process.returncode}: {_first_error(log)}",
                        remedy=f"Read the log {log}.",
                    )
                for line in news.lines():
                    say(line)
                time.sleep(_POLL_S)
            for line in news.lines():
                say(line)
    except KeyboardInterrupt:
        say(f"Hub and server go on in the background (pid {process.pid}). Stop them with: mendel down")
        raise
    if not news.deployed:
        say(_NOTHING_DEPLOYED)
    say(f"Mendel is up in the background (pid {process.pid}). Stop it with: mendel down")
    return int(news.failed)


def _first_error(log: Path) -> str:
    """Give the first error message in *log*, with its remedy; the end of the log if it has none."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    first = next((at for at, line in enumerate(lines) if line.startswith("error: ")), None)
    if first is None:
        return "\n".join(lines[-5:])
    more = takewhile(lambda line: line.startswith("  "), lines[first + 1 :])
    return "\n".join((lines[first].removeprefix("error: "), *more))


def stop_running(settings: Settings, stream: TextIO | None) -> int:
    """
    Stop the `mendel up` of the data directory, wait for its end, and give its process id.

    While a stop is under way, a second one ends server and hub at once.

    Args:
        stream: Where to say what the command waits for; None says nothing.

    Raises:
        Unavailable: No `mendel up` runs on the data directory, or this user may not stop it.
    """
    data = DataDirectory(settings.root)
    if not data.up_runs():
        raise Unavailable(
            f"No 'mendel up' runs on the data directory {data.root}.",
            remedy="Run the command in the directory of 'mendel up', or name its data directory with --directory.",
        )
    pid = data.up_pid()
    if pid is None:
        raise Unavailable(
            f"A 'mendel up' runs on the data directory {data.root}, but its process id is unknown.",
            remedy="Stop it with Ctrl-C in its terminal, or end its process.",
        )
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return pid
    except PermissionError as error:
        raise Unavailable(
            f"The 'mendel up' with the process id {pid} belongs to another user.", remedy="Stop it as that user."
        ) from error
    with showing("Stopping server and hub: requests and steps in progress are finished", stream=stream, after_s=0.5):
        while data.up_runs() and data.up_pid() in {pid, None}:
            time.sleep(_POLL_S)
    return pid


@contextmanager
def _heard(stop: Callable[[], None]) -> Iterator[None]:
    def on_signal(_: int, __: FrameType | None) -> None:
        stop()

    former = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
