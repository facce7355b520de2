"""Run a server as a process group of its own, and measure the memory and open files of its processes (Linux)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

STOP_S = 20.0


@contextmanager
def running(
    command: Sequence[str], *, log: Path, cwd: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run *command*, write its output to *log*, and end it with all its children when the block ends."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=None if environment is None else dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        family = [process.pid, *descendants(process.pid)]
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=STOP_S)
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def descendants(pid: int) -> list[int]:
    """The children of *pid*, their children, and so on."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        for listing in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):
                children = [int(child) for child in listing.read_text().split()]
                found.extend(children)
                waiting.extend(children)
    return found


def memory_mb(pid: int) -> float:
    """The sum of the proportional set sizes of *pid* and its descendants."""
    return sum(_pss_kb(member) for member in (pid, *descendants(pid))) / 1024


def open_files(pid: int) -> int:
    """The number of open descriptors of *pid* and its descendants."""
    total = 0
    for member in (pid, *descendants(pid)):
        with suppress(OSError):
            total += sum(1 for _ in Path(f"/proc/{member}/fd").iterdir())
    return total


def cpu_seconds(pid: int) -> float:
    """The CPU time of *pid* without its children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pss_kb(pid: int) -> float:
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return float(line.split()[1])
    return 0.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
