"""Digests of directories, and tar archives of directories whose entries cannot leave the target directory."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Self

from mendel.errors import DigestMismatch, InvalidInput, InvalidValue
from mendel.values.model_names import Digest

_CHUNK_BYTES = 1 << 20
_MAX_ENTRIES = 100_000
_MAX_NAME_BYTES = 255
_MAX_PATH_BYTES = 1024
_MAX_HEADER_BYTES = 1 << 20
_SHOWN = 80
_LONG_NAMES = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


def file_digest(path: Path) -> Digest:
    """SHA-256 of one file's bytes; memory use does not grow with the file."""
    with path.open("rb") as file:
        return Digest(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")


def tree_files(directory: Path, *, exclude: tuple[str, ...] = ()) -> Iterator[tuple[str, Path]]:
    """
    Yield every regular file below *directory* as (POSIX path, path), sorted by POSIX path.

    Args:
        exclude: Names of top-level entries to leave out.

    Raises:
        InvalidInput: An entry is a symbolic link or a special file, which has no content of its own.
    """
    for path in sorted(directory.rglob("*"), key=lambda p: p.relative_to(directory).as_posix()):
        name = path.relative_to(directory).as_posix()
        if name.split("/", 1)[0] in exclude:
            continue
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise InvalidInput(
                f"{name} is a link or a special file.", remedy="Replace links and special files by copies."
            )
        if path.is_file():
            yield name, path


def tree_digest(directory: Path, *, exclude: tuple[str, ...] = ()) -> Digest:
    """SHA-256 over the sorted (path, size, file digest) of every file; directories with equal content agree."""
    whole = hashlib.sha256()
    for name, path in tree_files(directory, exclude=exclude):
        whole.update(f"{name}\0{path.stat().st_size}\0{file_digest(path)}\n".encode())
    return Digest(f"sha256:{whole.hexdigest()}")


def pack_tree(directory: Path, into: BinaryIO, *, exclude: tuple[str, ...] = ()) -> None:
    """Write the files of *directory* as an uncompressed tar: sorted by path, mode 0644, no owner, no time."""
    with tarfile.open(fileobj=into, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for name, path in tree_files(directory, exclude=exclude):
            entry = tarfile.TarInfo(name)
            entry.size = path.stat().st_size
            entry.mode = 0o644
            with path.open("rb") as file:
                archive.addfile(entry, file)


def unpack_tree(packed: BinaryIO, into: Path, *, expect: Digest | None = None, max_bytes: int = 8 << 30) -> None:
    """
    Write the files of a tar archive to the directory *into*, which is created if absent and must be empty.

    Args:
        expect: The digest that the unpacked directory must have.
        max_bytes: The largest total size of the unpacked files.

    Raises:
        InvalidInput: The input is not a tar archive; an entry is a link or a device, lies outside the directory,
            repeats a name, or has a name that is too long or not UTF-8; or the files exceed *max_bytes*.
        DigestMismatch: The unpacked directory does not have the digest *expect*; do not use its files.
    """
    into.mkdir(parents=True, exist_ok=True)
    if any(into.iterdir()):
        raise InvalidValue(f"Directory {into} is not empty.", remedy="Give an empty directory.")
    try:
        with tarfile.open(fileobj=packed, mode="r|", tarinfo=_Header) as archive:
            _unpack(archive, into, max_bytes)
    except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
        raise InvalidInput(f"The input is not a readable tar archive: {error}.") from error
    if expect is not None and (found := tree_digest(into)) != expect:
        raise DigestMismatch(f"The artefact has digest {found}, not {expect}.", remedy="Fetch the artefact again.")


class _Header(tarfile.TarInfo):
    """A tar header, refused when it would make :mod:`tarfile` read much into memory or seek backwards."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        entry = super().frombuf(buf, encoding, errors)
        extended = entry.type in {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE} | set(_LONG_NAMES)
        if entry.size < 0:
            raise InvalidInput(f"A header in the archive declares a negative size: {entry.size} bytes.")
        if extended and entry.size > _MAX_HEADER_BYTES:
            raise InvalidInput(
                f"An extended tar header declares {entry.size} bytes; at most {_MAX_HEADER_BYTES} are allowed."
            )
        return entry


class _EntryNames:
    """The entry names seen in an archive; a name may occur once, as a file or as a directory."""

    def __init__(self) -> None:
        self._files: set[PurePosixPath] = set()
        self._directories: set[PurePosixPath] = set()

    def checked(self, entry: tarfile.TarInfo) -> PurePosixPath:
        """
        Give the path of *entry*, relative to the target directory.

        Raises:
            InvalidInput: The entry's type or name is not allowed, or its name conflicts with an earlier entry.
        """
        shown = ascii(entry.name[:_SHOWN])
        name = _path_of(entry, shown)
        if not entry.isdir() and (name in self._files or name in self._directories):
            raise InvalidInput(f"The archive has two entries named {shown}.")
        within = [name, *name.parents] if entry.isdir() else list(name.parents)
        if taken := next((one for one in within if one in self._files), None):
            raise InvalidInput(f"The archive has {str(taken)!a} both as a file and as a directory.")
        self._directories.update(within)
        if not entry.isdir():
            self._files.add(name)
        if len(self._files) + len(self._directories) > _MAX_ENTRIES:
            raise InvalidInput(f"The archive has more than {_MAX_ENTRIES} files and directories.")
        return name


def _path_of(entry: tarfile.TarInfo, shown: str) -> PurePosixPath:
    name = PurePosixPath(entry.name)
    kind = entry.type in {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE} and not entry.issparse()
    if not kind or name.is_absolute() or ".." in name.parts or not (name.parts or entry.isdir()):
        raise InvalidInput(f"The archive entry {shown} is not a regular file, or its path leaves the archive.")
    try:
        encoded = entry.name.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(f"The name of the archive entry {shown} is not UTF-8.") from error
    if len(encoded) > _MAX_PATH_BYTES or any(len(part.encode()) > _MAX_NAME_BYTES for part in name.parts):
        raise InvalidInput(f"The name of the archive entry {shown}... has {len(encoded)} bytes, which is too long.")
    if any(ord(letter) < ord(" ") for letter in entry.name):
        raise InvalidInput(f"The name of the archive entry {shown} contains a control character.")
    return name


def _unpack(archive: tarfile.TarFile, into: Path, max_bytes: int) -> None:
    names, total = _EntryNames(), 0
    for entry in archive:
        target = into / names.checked(entry)
        if entry.size < 0:
            raise InvalidInput(f"The archive entry {entry.name[:_SHOWN]!a} declares a negative size.")
        total += entry.size
        if total > max_bytes:
            raise InvalidInput(f"The files in the archive have more than {max_bytes} bytes in total.")
        if entry.isreg():
            _write_file(archive, entry, target)


def _write_file(archive: tarfile.TarFile, entry: tarfile.TarInfo, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source = archive.extractfile(entry) or io.BytesIO()
    with target.open("xb") as file:
        while chunk := source.read(_CHUNK_BYTES):
            file.write(chunk)
