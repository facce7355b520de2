"""Resolve pyproject.toml into hash-pinned requirements files without index addresses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FLAGS = [
    "--quiet",
    "--python-version",
    "3.11",
    "--no-emit-index-url",
    "--no-emit-find-links",
    "--generate-hashes",
    "--no-header",
]


def compile_to(target: str, *sources: str) -> None:
    """Write ``requirements/<target>.txt`` from *sources*."""
    command = [sys.executable, "-m", "uv", "pip", "compile", *FLAGS, *sources, "-o", f"requirements/{target}.txt"]
    subprocess.run(command, cwd=ROOT, check=True)  # noqa: S603 - our own arguments


def main() -> None:
    """Lock each file within the versions of the smaller one."""
    compile_to("base", "pyproject.toml")
    compile_to("hub", "--extra", "hub", "pyproject.toml", "-c", "requirements/base.txt")
    extras = [part for extra in ("hub", "build") for part in ("--extra", extra)]
    compile_to("dev", *extras, "pyproject.toml", "requirements/dev.in", "-c", "requirements/hub.txt")
    compile_to("wheel", "requirements/wheel.in", "-c", "requirements/dev.txt")
    compile_to("fuzz", "requirements/fuzz.in", "-c", "requirements/dev.txt")
    compile_to("grpc_clients", "requirements/grpc_clients.in")  # tritonclient takes no protobuf of Mendel's
    compile_to("uv", "requirements/uv.in", "-c", "requirements/dev.txt")
    for peer in sorted(ROOT.glob("benchmarks/serving/requirements-*.in")):
        compile_to(f"../benchmarks/serving/{peer.stem}", str(peer.relative_to(ROOT)))


if __name__ == "__main__":
    main()
