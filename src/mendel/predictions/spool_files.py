"""The files of a spool: names, owner and lock, sealed segments, and the recovery of damaged segments."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mendel.errors import DirectoryInUse, InvalidValue, SegmentCorrupt
from mendel.predictions.segments import (
    FOOT,
    HEAD,
    SegmentFrame,
    decode_frames,
    segment_footer,
    segment_header,
    whole_frames,
)
from mendel.values import Digest
from mendel.values.directory_trees import file_digest

OPEN, SEALED, BROKEN = ".open", ".segment", ".corrupt"
_SPOOL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class SealedSegment:
    """A sealed segment file that waits to be sent; segments are sent in the order of ``seq``."""

    spool_id: str
    seq: int
    path: Path

    @property
    def checksum(self) -> Digest:
        """SHA-256 over the whole file, which the hub's inbox checks."""
        return file_digest(self.path)


def check_spool_id(spool_id: str) -> str:
    """Return *spool_id* unchanged; raise InvalidValue if a path or a URL cannot contain this text."""
    if not _SPOOL_ID.fullmatch(spool_id):
        raise InvalidValue(
            f"{spool_id!r} is not a valid spool id.",
            remedy="Use at most 128 letters, digits, '.', '_' and '-'; start with a letter or digit.",
        )
    return spool_id


def spool_identity(directory: Path, new_id: Callable[[], str]) -> str:
    """Give the id of the spool in *directory*; a directory without an id gets a new one from *new_id*."""
    directory.mkdir(parents=True, exist_ok=True)
    mark = directory / "spool.id"
    if not (mark.exists() and mark.read_text(encoding="ascii").strip()):
        claim_directory(directory, check_spool_id(new_id()))
    return mark.read_text(encoding="ascii").strip()


def claim_directory(directory: Path, spool_id: str) -> None:
    """
    Write *spool_id* into the directory as its owner.

    Raises:
        InvalidValue: The directory belongs to another spool.
    """
    mark = directory / "spool.id"
    owner = mark.read_text(encoding="ascii").strip() if mark.exists() else ""
    if owner and owner != spool_id:
        raise InvalidValue(
            f"The directory {directory} belongs to spool {owner}, not to spool {spool_id}.",
            remedy="Set spool.directory to a different directory for each server.",
        )
    if not owner:
        fresh = directory / "spool.id.new"
        fresh.write_text(spool_id, encoding="ascii")
        fresh.replace(mark)


def lock_directory(directory: Path) -> int:
    """
    Lock *directory* for one writer; closing the returned descriptor releases the lock.

    Raises:
        DirectoryInUse: Another process, or another spool of this process, has locked the directory.
    """
    lock = os.open(directory / "spool.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise DirectoryInUse(
            f"Another process already writes to the spool directory {directory}.",
            remedy="Set spool.directory to a different directory for each server.",
        ) from error
    return lock


def open_path(directory: Path, seq: int) -> Path:
    """Give the path of segment *seq* while it is open."""
    return directory / f"{seq:016d}{OPEN}"


def sealed_path(directory: Path, seq: int) -> Path:
    """Give the path of segment *seq* after sealing."""
    return directory / f"{seq:016d}{SEALED}"


def segment_files(directory: Path, *suffixes: str) -> list[Path]:
    """List the segment files with one of *suffixes*, in order of sequence."""
    return sorted(path for path in directory.iterdir() if path.suffix in suffixes and path.stem.isdigit())


def used_bytes(directory: Path) -> int:
    """Sum the sizes of all segments, open and sealed; a segment that disappears meanwhile counts 0."""
    total = 0
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.endswith((OPEN, SEALED)):
                try:
                    total += entry.stat().st_size
                except FileNotFoundError:
                    continue
    return total


def sealed_segments(directory: Path) -> tuple[SealedSegment, ...]:
    """List every sealed segment of the spool in *directory*, oldest first; send and remove them in this order."""
    mark = directory / "spool.id"
    if not mark.exists():
        return ()
    spool_id = mark.read_text(encoding="ascii").strip()
    return tuple(
        SealedSegment(spool_id=spool_id, seq=int(path.stem), path=path) for path in segment_files(directory, SEALED)
    )


def salvage(segment: SealedSegment) -> SealedSegment:
    """
    Replace a damaged sealed segment by a segment with its intact frames.

    The sequence stays without gaps, so that the hub continues. The damaged file is kept as ``.corrupt``.
    """
    content = segment.path.read_bytes()
    frames = tuple(f for f in whole_frames(content).frames if f.kind not in {HEAD, FOOT})
    try:
        decode_frames(frames)
    except SegmentCorrupt:
        frames = ()
    _write_sealed(segment.path, _reassembled(segment.spool_id, segment.seq, content, frames), instead_of=content)
    return segment


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveredSegment:
    """The number of rows and labels recovered from an unsealed segment, and of bytes removed from its end."""

    count: int
    torn_bytes: int


def recover_open(path: Path, spool_id: str) -> RecoveredSegment:
    """
    Seal the segment that a killed writer left open at *path*, even an empty one, so that the sequence has no gaps.

    An incomplete frame at the end is removed. A file whose frames cannot be decoded (a newer Mendel wrote them) is kept
    as ``.corrupt``, and an empty segment takes its place.
    """
    content = path.read_bytes()
    prefix = whole_frames(content)
    sealed = path.with_suffix(SEALED)
    try:
        blocks, labels = decode_frames(prefix.frames)
    except SegmentCorrupt:
        _write_sealed(sealed, _reassembled(spool_id, int(path.stem), b"", ()), instead_of=content)
        path.unlink()
        return RecoveredSegment(count=0, torn_bytes=len(content))
    if not prefix.frames:
        _write_sealed(sealed, _reassembled(spool_id, int(path.stem), b"", ()), instead_of=b"")
        path.unlink()
    else:
        _seal_in_place(path, content[: prefix.size], prefix.frames)
        path.replace(sealed)
    return RecoveredSegment(count=sum(map(len, blocks)) + len(labels), torn_bytes=len(content) - prefix.size)


def has_no_data(path: Path) -> bool:
    """Tell whether the open segment at *path* holds no complete frame except its header."""
    return len(whole_frames(path.read_bytes()).frames) <= 1


def _seal_in_place(path: Path, whole: bytes, frames: tuple[SegmentFrame, ...]) -> None:
    foot = b"" if frames[-1].kind == FOOT else _foot(whole, frames)
    with path.open("r+b") as file:
        file.truncate(len(whole))
        file.seek(len(whole))
        file.write(foot)


def _foot(whole: bytes, frames: tuple[SegmentFrame, ...]) -> bytes:
    blocks, labels = decode_frames(frames)
    return segment_footer(rows=sum(map(len, blocks)), labels=len(labels), sha256=hashlib.sha256(whole).digest())


def _reassembled(spool_id: str, seq: int, content: bytes, frames: tuple[SegmentFrame, ...]) -> bytes:
    whole = segment_header(spool_id, seq) + b"".join(content[f.start : f.end] for f in frames)
    return whole + _foot(whole, frames)


def _write_sealed(path: Path, sealed: bytes, *, instead_of: bytes) -> None:
    if instead_of:
        path.with_suffix(BROKEN).write_bytes(instead_of)
    fresh = path.with_suffix(".salvaged")
    fresh.write_bytes(sealed)
    fresh.replace(path)
