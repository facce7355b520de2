"""Run pip for the Python of a base image instead of for the Python that runs pip."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from mendel.errors import ProgramFailed, Unsupported
from mendel.images import BasePin, Platform
from mendel.images.wheel_targets import marker_environment, platform_tags

PIP_TIMEOUT = timedelta(minutes=30)

_SHIM = Path(__file__).with_name("run_as_target.py")
_TAIL_LINES = 40
_REACHING = frozenset(
    f"PIP_{name}"
    for name in (
        *("CACHE_DIR", "CERT", "CLIENT_CERT", "CONFIG_FILE", "DEFAULT_TIMEOUT", "EXTRA_INDEX_URL", "FIND_LINKS"),
        *("INDEX_URL", "KEYRING_PROVIDER", "NO_CACHE_DIR", "NO_INDEX", "PROXY", "RETRIES", "TIMEOUT", "TRUSTED_HOST"),
    )
)
"""
The pip variables that are passed on: where to find packages and how to connect; all other pip variables are dropped.
"""

_SECRET = re.compile(r"//[^/@\s]+@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """
    How a run of pip ended: exit status, output lines without credentials, and ``late`` if the time limit was exceeded.
    """

    status: int
    lines: tuple[str, ...]
    late: bool = False

    @property
    def tail(self) -> str:
        """The last lines of pip's output."""
        return "\n".join(self.lines[-_TAIL_LINES:])

    def failure(self, doing: str) -> ProgramFailed:
        """Make the error for a failed run of pip whose output has no known cause."""
        why = "did not end in time" if self.late else f"ended with exit code {self.status}"
        return ProgramFailed(f"pip could not {doing}: pip {why}.", log_tail=self.tail)

    @property
    def offline(self) -> bool:
        """Whether the output shows that no package index was reachable."""
        signs = ("Retrying (Retry(", "Temporary failure in name resolution", "Connection refused", "ReadTimeoutError")
        return any(sign in line for line in self.lines for sign in signs)


class Pip:
    """
    Runs pip with the package index settings of this machine, and without the other environment variables of pip.

    Args:
        python: The Python interpreter in which pip is installed.
        timeout: The maximum duration of one run; then pip is killed.
    """

    def __init__(self, *, python: str = sys.executable, timeout: timedelta = PIP_TIMEOUT) -> None:
        self._python = python
        self._timeout = timeout

    def run(
        self,
        *arguments: str,
        base: BasePin,
        platform: Platform,
        wheels_only: bool = True,
        on_line: Callable[[str], None] = lambda _: None,
    ) -> Finished:
        """
        Run one command of pip for wheels of *platform* on *base*.

        Args:
            wheels_only: Whether distributions that have only sources are ignored.

        Raises:
            Unsupported: The interpreter has no pip.
        """
        if self._python == sys.executable and importlib.util.find_spec("pip") is None:
            raise Unsupported("pip is not installed in Mendel's Python.", remedy="Install the extra 'mendel[build]'.")
        environment = json.dumps(marker_environment(base, platform))
        options = ("--disable-pip-version-check", "--no-input", "--no-color")
        name, *rest = arguments
        target = target_options(base, platform) if wheels_only else ()
        command = [self._python, "-P", str(_SHIM), environment, name, *options, *target, *rest]
        return self._followed(command, on_line)

    def _followed(self, command: list[str], on_line: Callable[[str], None]) -> Finished:
        lines: deque[str] = deque(maxlen=10_000)
        with _child(command) as child, _killed_after(child, self._timeout) as late:
            for raw in child.stdout or ():
                line = _SECRET.sub("//", raw.rstrip("\n"))
                lines.append(line)
                on_line(line)
            status = child.wait()
        return Finished(status=status, lines=tuple(lines), late=late.is_set())


def target_options(base: BasePin, platform: Platform) -> tuple[str, ...]:
    """Make the pip options that select only wheels for *base* and *platform*."""
    abi = f"cp{base.python.replace('.', '')}"
    interpreter = ("--python-version", base.python, "--implementation", "cp", "--abi", abi)
    platforms = (option for tag in platform_tags(base.glibc, platform) for option in ("--platform", tag))
    return ("--only-binary=:all:", *interpreter, *platforms)


def requirement_file(directory: Path, name: str, lines: Iterable[str]) -> str:
    """Write *lines* to a requirements file; gives its path."""
    file = directory / name
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(file)


@contextmanager
def _child(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Start the program; it is killed when the ``with`` block ends."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON")) or k in _REACHING}
    child = subprocess.Popen(  # noqa: S603 - a list of arguments, never a shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env={**kept, "LC_ALL": "C.UTF-8", "PIP_PROGRESS_BAR": "off", "PYTHONUNBUFFERED": "1"},
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


@contextmanager
def _killed_after(child: subprocess.Popen[str], limit: timedelta) -> Iterator[threading.Event]:
    late = threading.Event()

    def stop() -> None:
        late.set()
        child.kill()

    timer = threading.Timer(limit.total_seconds(), stop)
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        timer.join()
