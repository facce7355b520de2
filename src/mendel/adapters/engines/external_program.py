"""Run external programs as subprocesses with timeouts, and turn their failures into errors."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO

from mendel.errors import ProgramFailed, Unsupported

_MINUTE = timedelta(minutes=1)
_ATTEMPTS = 3
_GRACE_SECONDS = 10.0
_TIDYING_SECONDS = 5.0
_LOOK_SECONDS = 0.05
_TAIL_LINES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The exit status and output of a program that has ended."""

    code: int
    out: str
    err: str

    @property
    def tail(self) -> str:
        """The last 40 lines of output, standard error last."""
        return tail(f"{self.out}\n{self.err}")

    @property
    def complaint(self) -> str:
        """The last non-empty line of standard error, or of standard output if standard error is empty."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return (
            lines[-1].removeprefix("Error: ").rstrip(".")
            if lines
            else (f"the program printed nothing and ended with exit code {self.code}")
        )


class Program:
    """
    An external program.

    Every run gets its own process session, so that Ctrl-C interrupts Mendel only; Mendel then ends the program.

    Args:
        environment: All environment variables of the program; None passes Mendel's own environment variables.
    """

    def __init__(self, name: str, environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.environment = dict(os.environ if environment is None else environment)

    def attempt(
        self, *arguments: str, within: timedelta = _MINUTE, environment: Mapping[str, str] | None = None
    ) -> Ended:
        """
        Run the program and return the result, whatever the exit status is.

        Raises:
            Unsupported: The program is not installed.
            ProgramFailed: The program ran longer than *within* and was killed.
        """
        started = self._started(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, environment=environment)
        with started as process:
            try:
                out, err = process.communicate(timeout=within.total_seconds())
            except subprocess.TimeoutExpired as error:
                raise self._too_slow(arguments, within) from error
        return Ended(code=process.returncode, out=_text(out), err=_text(err))

    def answer(self, *arguments: str, within: timedelta = _MINUTE, environment: Mapping[str, str] | None = None) -> str:
        """
        Run the program and return the standard output; further errors as :meth:`attempt`.

        Raises:
            ProgramFailed: The exit status is not 0.
        """
        ended = self.attempt(*arguments, within=within, environment=environment)
        if ended.code:
            raise self.failed(arguments, ended)
        return ended.out

    def watch(self, *arguments: str, within: timedelta | None, write: Callable[[str], None]) -> str:
        """
        Run a long program and pass each output line to *write* as soon as the line appears.

        Returns:
            The last 40 lines.

        Raises:
            ProgramFailed: The exit status is not 0, or the program ran longer than *within*.
        """
        last: deque[str] = deque(maxlen=_TAIL_LINES)

        def seen(line: str) -> None:
            last.append(line)
            write(line)

        with (
            tempfile.NamedTemporaryFile(prefix="mendel-log-") as log,
            self._started(arguments, stdout=log.fileno(), stderr=subprocess.STDOUT) as process,
        ):
            code = self._watched(process, Path(log.name), within, arguments, seen)
        printed = "\n".join(last)
        if code:
            raise self.failed(arguments, Ended(code=code, out="", err=printed))
        return printed

    def failed(self, arguments: tuple[str, ...], ended: Ended, *, remedy: str = "") -> ProgramFailed:
        """Make the error for a run whose exit status is not 0."""
        message = f"{self.name} {_verb(arguments)} failed: {ended.complaint}."
        return ProgramFailed(message, log_tail=ended.tail, remedy=remedy or _remedy(self.name, ended.tail))

    def _watched(
        self,
        process: subprocess.Popen[bytes],
        log: Path,
        within: timedelta | None,
        arguments: tuple[str, ...],
        seen: Callable[[str], None],
    ) -> int:
        deadline = None if within is None else time.monotonic() + within.total_seconds()
        pending = b""
        with log.open("rb") as reader:
            while True:
                code = process.poll()
                *lines, pending = (pending + reader.read()).split(b"\n")
                for line in lines:
                    seen(_text(line))
                if code is not None:
                    if pending:
                        seen(_text(pending))
                    return code
                if deadline is not None and within is not None and time.monotonic() > deadline:
                    raise self._too_slow(arguments, within)
                time.sleep(_LOOK_SECONDS)

    @contextmanager
    def _started(
        self,
        arguments: tuple[str, ...],
        *,
        stdout: int | IO[bytes],
        stderr: int,
        environment: Mapping[str, str] | None = None,
    ) -> Iterator[subprocess.Popen[bytes]]:
        try:
            process = subprocess.Popen(  # noqa: S603 - a list of arguments, never a shell
                [self.name, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                env=self.environment | dict(environment or {}),
                start_new_session=True,
            )
        except (FileNotFoundError, PermissionError) as error:
            raise Unsupported(f"{self.name} is not installed.", remedy=f"Install {self.name}.") from error
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    end_from_below(process)

    def _too_slow(self, arguments: tuple[str, ...], within: timedelta) -> ProgramFailed:
        message = f"{self.name} {_verb(arguments)} did not end within {within.total_seconds():g} s."
        return ProgramFailed(
            message, remedy=f"Check whether {self.name} hangs, for example on the network, then try again."
        )


def end_from_below(process: subprocess.Popen[bytes]) -> None:
    """
    Kill the descendants of *process* first, so that *process* fails and removes its temporary containers.

    An engine that is killed first would leave a half-built container running. Parents are killed before their children,
    so that no shell starts its next command. If *process* does not end, its session gets SIGTERM and then SIGKILL.
    """
    for _ in range(_ATTEMPTS):
        below = descendants(process.pid)
        if not below:
            break
        for pid in below:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_TIDYING_SECONDS)  # cleanup programs that the process starts are not killed during this wait
            return
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
            return


def descendants(ancestor: int) -> tuple[int, ...]:
    """Give the ids of all descendants of *ancestor*, parents before children; empty on systems without ``/proc``."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            parent = int(stat.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found: list[int] = []
    waiting = deque(children.get(ancestor, ()))
    while waiting:
        found.append(waiting.popleft())
        waiting.extend(children.get(found[-1], ()))
    return tuple(found)


def tail(text: str, lines: int = _TAIL_LINES) -> str:
    """Give the last *lines* non-empty lines of *text*."""
    return "\n".join([line.rstrip() for line in text.splitlines() if line.strip()][-lines:])


def _verb(arguments: tuple[str, ...]) -> str:
    return next((word for word in arguments if not word.startswith("-")), "")


def _remedy(name: str, log: str) -> str:
    if "Cannot connect to the Docker daemon" in log:
        return "Start the docker daemon, or choose another engine."
    if "permission denied" in log and name == "docker":
        return "Join the group docker, or run as root."
    if "no space left on device" in log:
        return f"Free space on the disk where {name} stores its images."
    return f"The end of the log of {name}, below, says why."


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")
