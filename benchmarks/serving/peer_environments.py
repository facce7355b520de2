"""Make an environment for each peer on first use, in the user's cache directory, from hash-pinned requirements."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
UV = Path(sys.executable).parent / "uv"


def python_of(peer: str) -> Path:
    """Give the Python of the environment for ``requirements-<peer>.txt``; make the environment if it is absent."""
    requirements = HERE / f"requirements-{peer}.txt"
    stamp = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    directory = _cache() / f"{peer}-{stamp}"
    if not (directory / "complete").exists():
        print(f"Installing {peer} into {directory} ...", file=sys.stderr, flush=True)
        for former in _cache().glob(f"{peer}-*"):
            shutil.rmtree(former)
        _make(directory, requirements)
    return directory / "bin" / "python"


def _make(directory: Path, requirements: Path) -> None:
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, directory], check=True)
    command = [UV, "pip", "install", "--quiet", "--compile-bytecode", "--require-hashes", "-r", requirements]
    subprocess.run([*command, "--python", directory / "bin" / "python"], check=True)
    (directory / "complete").touch()


def _cache() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(os.environ.get("MENDEL_CACHE") or home / "mendel") / "benchmarks"
