"""Reads the files of one wheel and their places in the image, without an installer and without trusting the wheel."""

from __future__ import annotations

import csv
import io
import re
import stat
import zipfile
import zlib
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from mendel.errors import Corrupt
from mendel.images import Venv

_PIECE_BYTES = 1 << 18
_MAX_SCRIPT_BYTES = 4 << 20
_MAX_DOCUMENT_BYTES = 64 << 20
_LEAST_BOUND_BYTES = 1 << 30
_MAX_RATIO = 50
_LOCAL_HEADER_BYTES = 30
_LOCAL_HEADER = b"PK\x03\x04"
_ENCRYPTED = 0x1
_LEFT_OUT = {"RECORD", "RECORD.jws", "RECORD.p7s", "INSTALLER", "REQUESTED", "direct_url.json"}
_TARGET = re.compile(r"(?P<module>[\w.]+)\s*:\s*(?P<attribute>[\w.]+)\s*(\[.*\])?", re.ASCII)
_SCRIPT_NAME = re.compile(r"[\w.+-]*\w[\w.+-]*", re.ASCII)
_SCRIPT = """\
{shebang}
import sys

from {module} import {name}

if __name__ == "__main__":
    sys.exit({attribute}())
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelFile:
    """
    A file of a wheel and its place in the image.

    Attributes:
        path: The path in the image, relative to the root.
        crc: The CRC-32 of the content; CRC and size together tell whether two wheels contain the same file.
    """

    path: str
    size: int
    crc: int
    content: Callable[[], Iterable[bytes]]
    executable: bool


@contextmanager
def wheel_files(wheel: Path, venv: Venv) -> Iterator[tuple[WheelFile, ...]]:
    """
    The files that *wheel* adds to a virtual environment of an image; contents can be read while the context is open.

    Byte-code and records of an installation are left out. RECORD is written anew from the wheel's own hashes, since
    ``importlib.metadata.files`` and image scanners read RECORD; it contains no path or time of this machine.

    Raises:
        Corrupt: The file is not a wheel, is damaged, or contains what no wheel may contain: names outside the wheel,
            links, a file twice, more than 50 times its own size.
    """
    try:
        with wheel.open("rb") as file, zipfile.ZipFile(file) as archive:
            yield tuple(_Wheel(wheel, file, archive, venv).files())
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, UnicodeDecodeError) as error:
        raise Corrupt(
            f"The wheel {wheel.name} is damaged: {error}.", remedy="Delete the file and fetch the wheel again."
        ) from error


class _Wheel:
    def __init__(self, wheel: Path, file: BinaryIO, archive: zipfile.ZipFile, venv: Venv) -> None:
        self._name, self._file = wheel.name, file
        self._root = str(venv.directory).lstrip("/")
        self._shebang = f"#!{venv.python}"
        self._site = f"{self._root}/lib/python{venv.base.python}/site-packages"
        self._include = f"{self._root}/include/site/python{venv.base.python}"
        self._members = {info.filename: info for info in archive.infolist()}
        self._check(archive.infolist(), bound=max(_LEAST_BOUND_BYTES, _MAX_RATIO * wheel.stat().st_size))
        self._information = self._find_information()

    def files(self) -> Iterator[WheelFile]:
        """Every file, RECORD last."""
        recorded = self._recorded()
        rows: list[tuple[str, str, str]] = []
        for name, info in self._members.items():
            if info.is_dir() or self._is_left_out(name):
                continue
            file, made = self._file_of(name, info), None
            if file.path.startswith(f"{self._root}/bin/") and (made := self._rewritten(info)) is not None:
                file = _made(file.path, made, executable=True)
            rows.append(self._row(file, recorded.get(name, "") if made is None else _record_hash(made)))
            yield file
        for name, content in self._entry_points():
            file = _made(f"{self._root}/bin/{name}", content, executable=True)
            rows.append(self._row(file, _record_hash(content)))
            yield file
        yield self._record(rows)

    def _check(self, members: list[zipfile.ZipInfo], *, bound: int) -> None:
        if len(members) != len(self._members):
            raise self._corrupt("contains the same file name twice")
        for info in members:
            parts = info.filename.removesuffix("/").split("/")
            if any(part in {"", ".", ".."} or "\\" in part or "\0" in part for part in parts):
                raise self._corrupt(f"contains {info.filename!r}, a path outside the wheel")
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
                raise self._corrupt(f"contains {info.filename!r}, which is neither a file nor a directory")
            if info.flag_bits & _ENCRYPTED or info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise self._corrupt(f"contains {info.filename!r} with a compression that wheels must not use")
        if sum(info.file_size for info in members) > bound:
            raise self._corrupt(f"unpacks to more than {bound} bytes")

    def _find_information(self) -> str:
        suffix = ".dist-info/METADATA"
        found = [name.removesuffix(suffix) for name in self._members if name.endswith(suffix) and name.count("/") == 1]
        if len(found) != 1:
            raise self._corrupt("does not contain exactly one *.dist-info/METADATA")
        return found[0]

    def _is_left_out(self, name: str) -> bool:
        folder, _, rest = name.partition("/")
        told = folder == f"{self._information}.dist-info" and rest in _LEFT_OUT
        return told or name.endswith(".pyc") or "__pycache__" in name.split("/")

    def _file_of(self, name: str, info: zipfile.ZipInfo) -> WheelFile:
        path, is_script = self._place(name)
        return WheelFile(
            path=path,
            size=info.file_size,
            crc=info.CRC,
            content=lambda: self._content(info),
            executable=is_script or bool(info.external_attr >> 16 & 0o111),
        )

    def _place(self, name: str) -> tuple[str, bool]:
        folder, _, rest = name.partition("/")
        if folder != f"{self._information}.data":
            return f"{self._site}/{name}", False
        scheme, _, rest = rest.partition("/")
        match scheme:
            case "purelib" | "platlib":
                return f"{self._site}/{rest}", False
            case "scripts":
                return f"{self._root}/bin/{rest}", True
            case "data":
                return f"{self._root}/{rest}", False
            case "headers":
                return f"{self._include}/{self._information.partition('-')[0]}/{rest}", False
        raise self._corrupt(f"contains {name!r}, in a place that wheels do not define")

    def _rewritten(self, info: zipfile.ZipInfo) -> bytes | None:
        """A script whose ``#!python`` line names the environment's interpreter instead; None for every other file."""
        start = next(iter(self._content(info)), b"")
        if not start.startswith(b"#!python") or info.file_size > _MAX_SCRIPT_BYTES:
            return None
        _, newline, rest = b"".join(self._content(info)).partition(b"\n")
        return self._shebang.encode() + newline + rest

    def _entry_points(self) -> Iterator[tuple[str, bytes]]:
        import configparser  # noqa: PLC0415 - cached layers need none

        text = self._document("entry_points.txt")
        parser = configparser.ConfigParser(
            delimiters=("=",),
            interpolation=None,
            strict=False,
            default_section="\0",  # no section is the default of others
        )
        parser.optionxform = str  # type: ignore[assignment, method-assign] # names of scripts keep their case
        try:
            parser.read_string(text)
        except configparser.Error as error:
            raise self._corrupt("has an unreadable entry_points.txt") from error
        for section in ("console_scripts", "gui_scripts"):
            for name, target in parser.items(section) if parser.has_section(section) else ():
                yield name, self._script(name, target)

    def _script(self, name: str, target: str) -> bytes:
        found = _TARGET.fullmatch(target.strip())
        parts = (found["module"].split("."), found["attribute"].split(".")) if found else ([""], [""])
        if not _SCRIPT_NAME.fullmatch(name) or not all(part.isidentifier() for some in parts for part in some):
            raise self._corrupt(f"has the invalid entry point {name!r} = {target!r}")
        module, attribute = ".".join(parts[0]), ".".join(parts[1])
        return _SCRIPT.format(shebang=self._shebang, module=module, name=parts[1][0], attribute=attribute).encode()

    def _recorded(self) -> dict[str, str]:
        try:
            return {row[0]: row[1] for row in csv.reader(io.StringIO(self._document("RECORD"))) if len(row) > 1}
        except csv.Error as error:
            raise self._corrupt("has an unreadable RECORD") from error

    def _record(self, rows: list[tuple[str, str, str]]) -> WheelFile:
        path = f"{self._site}/{self._information}.dist-info/RECORD"
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(sorted([*rows, (path.removeprefix(f"{self._site}/"), "", "")]))
        return _made(path, text.getvalue().encode(), executable=False)

    def _row(self, file: WheelFile, digest: str) -> tuple[str, str, str]:
        inside = file.path.startswith(f"{self._site}/")
        outside = f"../../../{file.path.removeprefix(self._root)[1:]}"
        return file.path.removeprefix(f"{self._site}/") if inside else outside, digest, str(file.size)

    def _document(self, name: str) -> str:
        info = self._members.get(f"{self._information}.dist-info/{name}")
        if info is None:
            return ""
        if info.file_size > _MAX_DOCUMENT_BYTES:
            raise self._corrupt(f"has a {name} of {info.file_size} bytes")
        try:
            return b"".join(self._content(info)).decode()
        except UnicodeDecodeError as error:
            raise self._corrupt(f"has a {name} that is not UTF-8") from error

    def _content(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        """The content in pieces; content that does not match its stated size and checksum is an error."""
        crc = given = 0
        for piece in self._inflated(info):
            given += len(piece)
            crc = zlib.crc32(piece, crc)
            if given > info.file_size:
                break
            yield piece
        if given != info.file_size or crc != info.CRC:
            raise self._corrupt(f"is damaged at {info.filename!r}")

    def _inflated(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        if info.compress_type == zipfile.ZIP_STORED:
            yield from self._stored(info)
            return
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        for packed in self._stored(info):
            yield inflate.decompress(packed, _PIECE_BYTES)
            while inflate.unconsumed_tail:
                yield inflate.decompress(inflate.unconsumed_tail, _PIECE_BYTES)
        yield inflate.flush()

    def _stored(self, info: zipfile.ZipInfo) -> Iterator[bytes]:
        """The bytes stored in the archive, found by the local header, whose name must match the central directory."""
        self._file.seek(info.header_offset)
        header = self._file.read(_LOCAL_HEADER_BYTES)
        if len(header) < _LOCAL_HEADER_BYTES or not header.startswith(_LOCAL_HEADER):
            raise self._corrupt(f"is damaged at {info.filename!r}")
        name_bytes, extra_bytes = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        position, left = info.header_offset + len(header) + name_bytes + extra_bytes, info.compress_size
        while left:
            self._file.seek(position)  # other members may be read between two pieces
            piece = self._file.read(min(_PIECE_BYTES, left))
            if not piece:
                raise self._corrupt(f"is truncated inside {info.filename!r}")
            yield piece
            position, left = position + len(piece), left - len(piece)

    def _corrupt(self, what: str) -> Corrupt:
        return Corrupt(f"{self._name} {what}.", remedy="Pin another version or build of the distribution.")


def _made(path: str, content: bytes, *, executable: bool) -> WheelFile:
    crc = zlib.crc32(content)
    return WheelFile(path=path, size=len(content), crc=crc, content=lambda: (content,), executable=executable)


def _record_hash(content: bytes) -> str:
    return "sha256=" + urlsafe_b64encode(sha256(content).digest()).rstrip(b"=").decode()
