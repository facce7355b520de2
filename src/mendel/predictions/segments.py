"""
The segment file: what a spool writes and a hub reads.

    "MNDLSEG" 0x01
    frame *          u32 length, u32 crc32 of the payload, payload (little endian); payload = kind byte + msgpack
      first  'H'     spool id, seq
      then   'P'     a block        'L'  labels
      last   'F'     rows, labels, sha256 of every byte before this frame: the file is sealed

A file without its last frame is open, or was torn by a crash: its whole frames are good, the rest never counted.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mendel.errors import DigestMismatch, SegmentCorrupt
from mendel.predictions.encoding import decode_block, decode_labels
from mendel.predictions.entities import LabelRow, PredictionBlock, Segment
from mendel.values import Digest

MAGIC = b"MNDLSEG\x01"
HEAD, BLOCK, LABELS, FOOT = b"H", b"P", b"L", b"F"
_PREFIX = struct.Struct("<II")
_encoder = msgspec.msgpack.Encoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One whole frame: its kind, its payload without the kind byte, and where in the file it begins and ends."""

    kind: bytes
    payload: bytes
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """The whole frames a file begins with; ``size`` is where the last of them ends."""

    frames: tuple[Frame, ...]
    size: int


class _Head(msgspec.Struct, array_like=True, frozen=True):
    spool_id: str
    seq: int


class _Foot(msgspec.Struct, array_like=True, frozen=True):
    rows: int
    labels: int
    sha256: bytes


def frame(kind: bytes, payload: bytes) -> bytes:
    """One frame, ready to be written at once."""
    body = kind + payload
    return _PREFIX.pack(len(body), zlib.crc32(body)) + body


def opening(spool_id: str, seq: int) -> bytes:
    """What every segment begins with."""
    return MAGIC + frame(HEAD, _encoder.encode(_Head(spool_id, seq)))


def closing(*, rows: int, labels: int, sha256: bytes) -> bytes:
    """What seals a segment; *sha256* is the digest of every byte before."""
    return frame(FOOT, _encoder.encode(_Foot(rows, labels, sha256)))


def whole_frames(content: bytes) -> Prefix:
    """Every whole frame that *content* begins with; none when not even the magic is there."""
    if not content.startswith(MAGIC):
        return Prefix(frames=(), size=0)
    frames = tuple(_frames(content))
    return Prefix(frames=frames, size=frames[-1].end if frames else len(MAGIC))


def _frames(content: bytes) -> Iterator[Frame]:
    at = len(MAGIC)
    while at + _PREFIX.size <= len(content):
        length, crc = _PREFIX.unpack_from(content, at)
        end = at + _PREFIX.size + length
        body = content[at + _PREFIX.size : end]
        if length == 0 or end > len(content) or zlib.crc32(body) != crc:
            return
        yield Frame(kind=body[:1], payload=body[1:], start=at, end=end)
        at = end


def parse_segment(content: bytes, *, name: str = "segment") -> Segment:
    """
    Read a sealed segment.

    Raises:
        SegmentCorrupt: Not sealed, cut short, or a checksum does not hold.
    """
    prefix = whole_frames(content)
    frames = prefix.frames
    if prefix.size != len(content) or len(frames) < 2 or frames[0].kind != HEAD or frames[-1].kind != FOOT:  # noqa: PLR2004 - a head and a foot
        raise SegmentCorrupt(
            f"{name} is not a whole sealed segment: {prefix.size} of {len(content)} bytes hold.",
            remedy="Its whole frames can be saved with mendel.predictions.salvage.",
        )
    try:
        head = msgspec.msgpack.decode(frames[0].payload, type=_Head)
        foot = msgspec.msgpack.decode(frames[-1].payload, type=_Foot)
    except msgspec.DecodeError as error:
        raise SegmentCorrupt(f"{name} has no readable head and foot: {error}.") from error
    if hashlib.sha256(memoryview(content)[: frames[-1].start]).digest() != foot.sha256:
        raise SegmentCorrupt(f"{name} does not have the SHA-256 it was sealed with.")
    blocks, labels = contents(frames)
    if (sum(map(len, blocks)), len(labels)) != (foot.rows, foot.labels):
        raise SegmentCorrupt(f"{name} does not hold the {foot.rows} rows and {foot.labels} labels it was sealed with.")
    return Segment(spool_id=head.spool_id, seq=head.seq, blocks=blocks, labels=labels)


def contents(frames: tuple[Frame, ...]) -> tuple[tuple[PredictionBlock, ...], tuple[LabelRow, ...]]:
    """The blocks and labels among *frames*, in order."""
    blocks = tuple(decode_block(f.payload) for f in frames if f.kind == BLOCK)
    return blocks, tuple(label for f in frames if f.kind == LABELS for label in decode_labels(f.payload))


def check_segment(spool_id: str, seq: int, content: bytes, checksum: Digest) -> None:
    """
    Refuse what is not a whole sealed segment of that spool and number.

    Raises:
        DigestMismatch: *content* does not have *checksum*.
        SegmentCorrupt: It cannot be read, or says that it is another.
    """
    found = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if found != checksum:
        raise DigestMismatch(f"Segment {seq} of {spool_id} has {found}, not {checksum}.", remedy="Send it again.")
    segment = parse_segment(content, name=f"{spool_id}/{seq}")
    if (segment.spool_id, segment.seq) != (spool_id, seq):
        raise SegmentCorrupt(f"Segment {seq} of {spool_id} says it is {segment.seq} of {segment.spool_id}.")


def read_segment(path: Path) -> Segment:
    """
    Read a sealed segment file.

    Raises:
        SegmentCorrupt: Not sealed, cut short, or a checksum does not hold.
    """
    return parse_segment(path.read_bytes(), name=path.name)
