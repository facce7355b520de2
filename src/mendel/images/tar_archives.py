"""Write tar archives with fixed bytes, because the headers of Python's tarfile differ between Python versions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from mendel.errors import InvalidValue

EPOCH_1980 = 315532800
"""
The modification time of all files in layers, 1980-01-01: the earliest time in zip archives.

The time is not the commit's, so that a layer with unchanged content stays equal.
"""

BLOCK = 512
_END = b"\0" * (2 * BLOCK)
_MAX_OCTAL_SIZE = 8**11 - 1
_MAX_NAME = _MAX_LINK = 100
_NUMBERS = b"%07o\0%07o\0%07o\0%011o\0%011o\0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """A directory in a tar archive; *owner* is its user and group id."""

    path: str
    owner: int = 0
    mode: int = 0o755


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """
    A regular file in a tar archive, owned by root.

    Attributes:
        content: Gives the content in pieces, ``size`` bytes in total; called when the file is written.
    """

    path: str
    size: int
    content: Callable[[], Iterable[bytes]]
    executable: bool = False

    @classmethod
    def of(cls, path: str, content: bytes, *, executable: bool = False) -> File:
        """Make a file from its content."""
        return cls(path=path, size=len(content), content=lambda: (content,), executable=executable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Symlink:
    """A symbolic link in a tar archive, with the path that it points to."""

    path: str
    target: str


Entry = Directory | File | Symlink


def write_tar(entries: Iterable[Entry]) -> Iterator[bytes]:
    """
    Write the archive of *entries* in pieces: sorted by path, with each parent directory once before its contents.

    Names are relative, without ``./``. Owner, mode and time depend only on the kind of entry, not on files of this
    machine. Equal entries in any order give equal bytes.

    Raises:
        InvalidValue: A path leaves the archive or occurs twice, or a file's content does not have its stated size.
    """
    known: dict[str, Entry] = {}
    for entry in entries:
        _check_path(entry.path)
        if entry.path in known:
            raise InvalidValue(f"The path {entry.path!r} occurs twice in one image layer.")
        known[entry.path] = entry
    for path in list(known):
        for parent in _parents(path):
            if not isinstance(known.setdefault(parent, Directory(path=parent)), Directory):
                raise InvalidValue(f"The path {parent!r} is both a directory and a file in one image layer.")
    for path in sorted(known, key=lambda path: path.split("/")):
        entry = known[path]
        yield _header(entry)
        if isinstance(entry, File):
            yield from _body(entry)
    yield _END


def _check_path(path: str) -> None:
    parts = path.split("/")
    if not path or "\0" in path or any(part in {"", ".", ".."} for part in parts):
        raise InvalidValue(f"{path!r} is not a valid path in an image layer.")


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _body(entry: File) -> Iterator[bytes]:
    given = 0
    for piece in entry.content():
        given += len(piece)
        if given > entry.size:
            break
        yield piece
    if given != entry.size:
        raise InvalidValue(
            f"The size of {entry.path!r} changed from {entry.size} to {given} bytes while its image layer was written."
        )
    if padding := -entry.size % BLOCK:
        yield b"\0" * padding


def _header(entry: Entry) -> bytes:
    name = f"{entry.path}/" if isinstance(entry, Directory) else entry.path
    target = entry.target if isinstance(entry, Symlink) else ""
    size = entry.size if isinstance(entry, File) else 0
    records = {
        **({"path": name} if _needs_record(name, _MAX_NAME) else {}),
        **({"linkpath": target} if _needs_record(target, _MAX_LINK) else {}),
        **({"size": str(size)} if size > _MAX_OCTAL_SIZE else {}),
    }
    match entry:
        case Directory(owner=owner, mode=mode):
            kind = b"5"
        case File(executable=executable):
            kind, mode, owner = b"0", 0o755 if executable else 0o644, 0
        case Symlink():
            kind, mode, owner = b"2", 0o777, 0
    size = 0 if size > _MAX_OCTAL_SIZE else size
    numbers = _NUMBERS % (mode, owner, owner, size, EPOCH_1980)
    block = _block(_short(name, _MAX_NAME), numbers, kind, _short(target, _MAX_LINK))
    return _extended(records) + block if records else block


def _needs_record(text: str, longest: int) -> bool:
    return len(text) > longest or not text.isascii()


def _short(text: str, longest: int) -> bytes:
    return text.encode("ascii", "replace")[:longest]


def _extended(records: dict[str, str]) -> bytes:
    body = b"".join(_record(key, value) for key, value in sorted(records.items()))
    numbers = _NUMBERS % (0o644, 0, 0, len(body), EPOCH_1980)
    return _block(b"PaxHeader", numbers, b"x") + body + b"\0" * (-len(body) % BLOCK)


def _record(key: str, value: str) -> bytes:
    """Write one ``length key=value`` line of a pax header; the length includes its own digits."""
    rest = f" {key}={value}\n".encode()
    length = len(rest) + 1
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def _block(name: bytes, numbers: bytes, kind: bytes, target: bytes = b"") -> bytes:
    """
    Write a header block (IEEE Std 1003.1, pax, "ustar Interchange Format"); the checksum counts itself as spaces.

    Args:
        numbers: Mode, user, group, size and time, encoded for the block.
    """
    before = name.ljust(100, b"\0") + numbers
    names_of_owners, device, prefix_and_rest = bytes(32 + 32), b"0000000\x000000000\0", bytes(155 + 12)
    after = kind + target.ljust(100, b"\0") + b"ustar\x0000" + names_of_owners + device + prefix_and_rest
    total = sum(before) + 8 * ord(" ") + sum(after)
    return before + b"%06o\0 " % total + after
