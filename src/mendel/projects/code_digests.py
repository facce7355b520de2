"""The digest of a project's code, equal for a checkout and for an export of the same commit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from mendel.values import Digest
from mendel.values.directory_trees import file_digest


def code_digest(directory: Path, files: Iterable[str]) -> Digest:
    """
    SHA-256 over the sorted (path, content digest) of *files*, relative to *directory*.

    A symbolic link counts by its target path. A tracked file that was deleted counts as ``absent``, so deleting a file
    changes the digest.
    """
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(f"{name}\0{_content(directory / name)}\n".encode())
    return Digest(f"sha256:{whole.hexdigest()}")


def files_below(directory: Path) -> tuple[str, ...]:
    """List every file and link below *directory*, relative to it, sorted; in an export these are the tracked files."""
    found = (path for path in directory.rglob("*") if path.is_symlink() or path.is_file())
    return tuple(sorted(path.relative_to(directory).as_posix() for path in found))


def _content(path: Path) -> str:
    if path.is_symlink():
        return f"link {path.readlink()}"
    return file_digest(path) if path.is_file() else "absent"
