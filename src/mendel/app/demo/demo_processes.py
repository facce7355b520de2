"""Run `mendel up` and other commands for the demo, in a separate data directory."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import httpx

from mendel.app.connect import connect
from mendel.app.directory import DataDirectory
from mendel.app.environment import system_environment
from mendel.client.client import Client
from mendel.errors import DeadlineExceeded, MendelError, Unavailable

T = TypeVar("T")
HOST = "127.0.0.1"
PATIENCE_S = 300.0
"""The longest wait of the demo for one condition, in seconds; a busy machine can be ten times slower than usual."""

_POLL_S = 0.3
"""The pause between two questions to the hub; each takes CPU time that the hub needs for its work."""


@dataclass(slots=True, kw_only=True)
class Stage:
    """An installation of Mendel in *directory* that serves *project* on free ports."""

    directory: Path
    project: Path
    log: Path
    settings: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    asker: Client | None = None

    def command(self, *arguments: str) -> str:
        """Run a `mendel` command and give its output; a failure raises MendelError with the command's message."""
        done = subprocess.run(  # noqa: S603 - our own command line
            [sys.executable, "-m", "mendel.app.cli", *arguments],
            cwd=self.project,
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise MendelError(f"mendel {' '.join(arguments)} failed: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    @contextmanager
    def up(self) -> Iterator[None]:
        """Start `mendel up` without waiting for hub and server, and stop it on exit as Ctrl-C would."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own command line
                [sys.executable, "-m", "mendel.app.cli", "up", "--path", str(self.project)],
                cwd=self.project,
                env=self._environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            yield
        finally:
            self.stop()

    def stop(self) -> None:
        """Stop `mendel up`, and wait for its end."""
        self.hang_up()
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @property
    def data(self) -> DataDirectory:
        """The data directory of the installation."""
        return DataDirectory(self.directory)

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Open a client of the hub."""
        with connect(directory=str(self.directory)) as client:
            yield client

    def ask(self, question: Callable[[Client], T]) -> T:
        """Call *question* with a client of the hub; retry while the hub cannot be reached, as it may be restarting."""
        answers: list[T] = []

        def once() -> bool:
            try:
                self.asker = self.asker or connect(directory=str(self.directory))
                answers.append(question(self.asker))
            except Unavailable:
                self.hang_up()
            return bool(answers)

        self.wait(once, "the hub")
        return answers[0]

    def hang_up(self) -> None:
        """Close the connection to the hub; the next request opens a new connection."""
        if self.asker is not None:
            self.asker.close()
            self.asker = None

    def kill_hub(self) -> int:
        """Kill the hub with SIGKILL, and give its process id."""
        running = self.data.hub()
        if running is None:
            raise Unavailable("The hub of the demo does not run.")
        os.kill(running.pid, signal.SIGKILL)
        return running.pid

    def post_labels(self, labels: list[tuple[str, Any]]) -> None:
        """Post labels to the server over REST; each item is a prediction id and its label."""
        port = self.data.server_ports()["rest"][0]
        rows = [{"prediction_id": name, "true_label": label, "label_source": "demo"} for name, label in labels]
        answer = httpx.post(
            f"http://{HOST}:{port}/monitoring/labels",
            json={"labels": rows},
            headers={"authorization": f"Bearer {self.data.secret()}"},
            timeout=30,
        )
        answer.raise_for_status()

    def wait(self, reached: Callable[[], T | None], what: str) -> T:
        """
        Wait until *reached* gives a result that is not None or False, and give that result.

        Args:
            what: The awaited thing, for the error message.

        Raises:
            DeadlineExceeded: *reached* gave no result in time.
            Unavailable: `mendel up` ended meanwhile; the message contains the end of its log.
        """
        end = time.monotonic() + PATIENCE_S
        while not (found := reached()):
            if self.process is not None and self.process.poll() is not None:
                raise Unavailable(f"mendel up ended: {self._log_tail()}")
            if time.monotonic() > end:
                raise DeadlineExceeded(f"Waited {PATIENCE_S:.0f} s for {what}. {self._log_tail()}")
            time.sleep(_POLL_S)
        return found

    def _log_tail(self) -> str:
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-15:])

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in system_environment().items() if not name.startswith("MENDEL_")}
        return {**inherited, "MENDEL_DIRECTORY": str(self.directory), **self.settings}


def free_ports(count: int) -> list[int]:
    """Give *count* TCP ports on which no program listens now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def seconds(span: timedelta) -> str:
    """Write a duration as seconds with one decimal, for example ``1.5 s``."""
    return f"{span.total_seconds():.1f} s"
