#!/usr/bin/env python3
"""
Generate the stubs in ``src/mendel/protos`` from the ``.proto`` files beside them.

Run the script with the development environment after a change of a ``.proto``; ``--check`` only reports stale stubs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

SOURCE = Path(__file__).resolve().parent.parent / "src"
FOLDER = Path("mendel/protos")


def generate(into: Path) -> tuple[Path, ...]:
    """Write every stub below *into* and give their paths, relative to it."""
    include = Path(protoc.__file__).parent / "_proto"
    protos = sorted(str(path.relative_to(SOURCE)) for path in (SOURCE / FOLDER).glob("*.proto"))
    outputs = [f"--{kind}_out={into}" for kind in ("python", "pyi", "grpc_python")]
    if protoc.main(["protoc", f"-I{SOURCE}", f"-I{include}", *outputs, *protos]):
        raise SystemExit("protoc refused; see above.")
    return tuple(sorted(path.relative_to(into) for path in (into / FOLDER).glob("*_pb2*.py*")))


def stale() -> list[str]:
    """The stubs that differ from what their ``.proto`` says now."""
    with tempfile.TemporaryDirectory() as scratch:
        made = {path: (Path(scratch) / path).read_bytes() for path in generate(Path(scratch))}
    return [str(path) for path, text in made.items() if not _same(SOURCE / path, text)]


def _same(path: Path, text: bytes) -> bool:
    return path.is_file() and path.read_bytes() == text


def main() -> None:
    """Generate, or check."""
    if sys.argv[1:] == ["--check"]:
        if late := stale():
            raise SystemExit(f"Run scripts/make_protos.py: {', '.join(late)} differ.")
        return
    generate(SOURCE)


if __name__ == "__main__":
    main()
