"""Build the wheel and prove in a bare environment that the base install serves without the hub's libraries."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HUB_ONLY = (
    "alembic",
    "dbos",
    "deltalake",
    "fastapi",
    "mlflow",
    "pandas",
    "pandera",
    "polars",
    "pyarrow",
    "pydantic",
    "sqlalchemy",
)
BASE_MODULES = (
    "mendel",
    "mendel.app.cli.main",
    "mendel.app.connect",
    "mendel.app.server.launch",
    "mendel.app.server.worker",
    "mendel.client.client",
    "mendel.drift",
    "mendel.operations",
    "mendel.predictions",
    "mendel.projects",
    "mendel.registry",
    "mendel.serving",
)
PROBE = f"""
import importlib, importlib.util, sys
present = [name for name in {HUB_ONLY!r} if importlib.util.find_spec(name)]
assert not present, f"the bare environment has {{present}}"
for name in {BASE_MODULES!r}:
    importlib.import_module(name)
from mendel.transports.door_table import DOORS
for door in DOORS:
    importlib.import_module(f"mendel.transports.{{door.name}}.server")
print("base install imports", len({BASE_MODULES!r}), "modules without the hub's libraries")
"""


def run(*command: str | Path) -> None:
    """Run *command*; its failure is ours."""
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT)  # noqa: S603 - our own arguments


def main() -> None:
    """Build, install, import, ask for help."""
    with tempfile.TemporaryDirectory() as scratch:
        room = Path(scratch)
        run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", room / "dist")
        wheel = next((room / "dist").glob("*.whl"))
        run(sys.executable, "-m", "venv", room / "bare")
        python = room / "bare/bin/python"
        run(
            sys.executable,
            "-m",
            "uv",
            "pip",
            "install",
            "-q",
            "--python",
            python,
            "--require-hashes",
            "-r",
            "requirements/base.txt",
        )
        run(sys.executable, "-m", "uv", "pip", "install", "-q", "--python", python, "--no-deps", wheel)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
        subprocess.run([str(python), "-c", PROBE], check=True, cwd=room, env=environment)  # noqa: S603
        subprocess.run([str(room / "bare/bin/mendel"), "--help"], check=True, cwd=room, env=environment)  # noqa: S603


if __name__ == "__main__":
    main()
