"""Directories by content: their digest, and their journey as a tar that cannot leave its place."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from mendel.errors import DigestMismatch, InvalidInput, InvalidValue
from mendel.values.model_names import Digest

_CHUNK_BYTES = 1 << 20


def file_digest(path: Path) -> Digest:
    """SHA-256 of one file's bytes, read in bounded memory."""
    with path.open("rb") as file:
        return Digest(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")


def tree_files(directory: Path, *, exclude: tuple[str, ...] = ()) -> Iterator[tuple[str, Path]]:
    """
    Every regular file below *directory* as (posix path, path), sorted; *exclude* names top-level entries to leave out.

    Raises:
        InvalidInput: A symbolic link or special file: neither has content of its own.
    """
    for path in sorted(directory.rglob("*"), key=lambda p: p.relative_to(directory).as_posix()):
        name = path.relative_to(directory).as_posix()
        if name.split("/", 1)[0] in exclude:
            continue
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise InvalidInput(f"{name} is not a regular file.", remedy="Replace links and special files by copies.")
        if path.is_file():
            yield name, path


def tree_digest(directory: Path, *, exclude: tuple[str, ...] = ()) -> Digest:
    """SHA-256 over the sorted (path, size, file digest) of every file: equal content, equal digest."""
    whole = hashlib.sha256()
    for name, path in tree_files(directory, exclude=exclude):
        whole.update(f"{name}\0{path.stat().st_size}\0{file_digest(path)}\n".encode())
    return Digest(f"sha256:{whole.hexdigest()}")


def pack_tree(directory: Path, into: BinaryIO, *, exclude: tuple[str, ...] = ()) -> None:
    """Write the files of *directory* as an uncompressed tar: sorted, without owners, times or modes of their own."""
    with tarfile.open(fileobj=into, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for name, path in tree_files(directory, exclude=exclude):
            entry = tarfile.TarInfo(name)
            entry.size = path.stat().st_size
            entry.mode = 0o644
            with path.open("rb") as file:
                archive.addfile(entry, file)


def unpack_tree(packed: BinaryIO, into: Path, *, expect: Digest | None = None, max_bytes: int = 8 << 30) -> None:
    """
    Write the files of a tar below *into*, which is made and must be empty.

    Args:
        expect: The digest that the unpacked tree must have.
        max_bytes: Bound on the unpacked size.

    Raises:
        InvalidInput: An entry is not a regular file, leaves the directory, or exceeds the bound.
        DigestMismatch: The tree is not the expected one; *into* is then not to be used.
    """
    into.mkdir(parents=True, exist_ok=True)
    if any(into.iterdir()):
        raise InvalidValue(f"{into} is not empty.")
    total = 0
    try:
        with tarfile.open(fileobj=packed, mode="r|") as archive:
            for entry in archive:
                total += entry.size
                _write_entry(archive, entry, into, over=total > max_bytes)
    except tarfile.TarError as error:
        raise InvalidInput(f"Not a tar archive: {error}.") from error
    if expect is not None and (found := tree_digest(into)) != expect:
        raise DigestMismatch(f"The artefact has digest {found}, not {expect}.", remedy="Fetch it again.")


def _write_entry(archive: tarfile.TarFile, entry: tarfile.TarInfo, into: Path, *, over: bool) -> None:
    if over:
        raise InvalidInput("The archive unpacks to more than its bound.")
    if entry.isdir():
        return
    name = PurePosixPath(entry.name)
    if not entry.isreg() or name.is_absolute() or ".." in name.parts or not name.parts:
        raise InvalidInput(f"The archive holds {entry.name!r}, which is not a file inside it.")
    target = into / name
    target.parent.mkdir(parents=True, exist_ok=True)
    source = archive.extractfile(entry) or io.BytesIO()
    with target.open("xb") as file:
        while chunk := source.read(_CHUNK_BYTES):
            file.write(chunk)
