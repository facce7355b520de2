"""A PostgreSQL server of our own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.programs import program
from support.waiting import until


@pytest.fixture(scope="session")
def postgres(need: Callable[..., None]) -> Iterator[str]:
    """The URL of a database on a server that this session has for itself, reached by a socket in its directory."""
    need("initdb", "postgres", "pg_isready", root=False)
    as_whom = {"user": "postgres"} if os.geteuid() == 0 else {}  # it refuses to run as root
    home = Path(tempfile.mkdtemp(prefix="mendel-pg-"))
    if as_whom:
        shutil.chown(home, **as_whom)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": home, **as_whom}

    def command(name: str, *arguments: str) -> list[str]:
        return [str(program(name)), *arguments]

    make = command("initdb", "-D", f"{home}/data", "-U", "mendel", "-A", "trust", "--no-sync")
    subprocess.run(make, check=True, **quiet)
    server = subprocess.Popen(
        command("postgres", "-D", f"{home}/data", "-k", str(home), "-c", "listen_addresses=", "-F"), **quiet
    )
    try:
        ask = command("pg_isready", "-h", str(home))
        until(lambda: subprocess.run(ask, check=False, **quiet).returncode == 0)
        yield f"postgresql://mendel@/postgres?host={home}"
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(20)
        shutil.rmtree(home)
