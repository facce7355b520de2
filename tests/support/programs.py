"""Programs of others that tests run: looked for, and missed in one sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

INSTALL = "run scripts/install_test_programs.sh"
PLACES = (
    *os.environ["PATH"].split(":"),
    "/usr/sbin",
    "/sbin",
    *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"))),
)


def program(name: str) -> str | None:
    """The path of a program, where Debian keeps it out of the PATH too."""
    return shutil.which(name, path=":".join(PLACES))


@pytest.fixture(scope="session")
def need() -> Callable[..., None]:
    """Skip where programs are absent or root is asked for and not there, saying what to do; in CI a skip fails."""

    def check(*programs: str, root: bool = True) -> None:
        absent = [name for name in programs if program(name) is None]
        lacks = [f"{' and '.join(absent)} ({INSTALL})"] if absent else []
        lacks += ["root"] if root and os.geteuid() else []
        if lacks:
            pytest.skip(f"needs {' and '.join(lacks)}")

    return check


def other_python(minor: str, *, asked: tuple[str, ...] = ("-c", "")) -> str:
    """An interpreter of that minor version that does what is asked: pyenv's, uv's, or one on the PATH."""
    installed = (*Path.home().glob(f".pyenv/versions/{minor}.*/bin/python{minor}"),)
    managed = (*Path.home().glob(f".local/share/uv/python/cpython-{minor}.*/bin/python{minor}"),)
    for candidate in (*map(str, sorted(installed + managed)), shutil.which(f"python{minor}")):
        if candidate and subprocess.run([candidate, *asked], check=False, capture_output=True).returncode == 0:
            return candidate
    pytest.skip(f"needs python{minor}, on the PATH or from pyenv or uv")


def grpc_client(name: str) -> list[str]:
    """The command of a gRPC client that others made, which takes JSON; skips where the client was not made."""
    root = Path(__file__).parents[2]
    made, sources = root / ".venv" / "grpc_clients", root / "tests" / "grpc_clients"
    command = {
        "go": [made / "go"],
        "js": [Path(program("node") or "node"), made / "js" / "checks.js"],
        "kserve": [made / "python" / "bin" / "python", sources / "python" / "kserve_checks.py"],
        "python": [made / "python" / "bin" / "python", sources / "python" / "checks.py"],
    }[name]
    if absent := [path for path in command if not path.exists()]:
        pytest.skip(f"needs {', '.join(map(str, absent))} ({INSTALL} and scripts/make_grpc_clients.sh)")
    return [str(path) for path in command]


def mlserver_python() -> Path:
    """The Python of the environment with Seldon MLServer; skips where it was not made."""
    python = Path(__file__).parents[2] / ".venv" / "grpc_clients" / "mlserver" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"needs {python} (run scripts/make_grpc_clients.sh)")
    return python
