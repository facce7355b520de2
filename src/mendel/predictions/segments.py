"""
The segment file, which a spool writes and the hub reads.

    "MNDLSEG" 0x01
    frame *          u32 length, u32 crc32 of the payload, payload (little endian); payload = kind byte + msgpack
      first  'H'     spool id, seq
      then   'P'     a block        'L'  labels
      last   'F'     rows, labels, sha256 of every byte before this frame: the file is sealed

A file without the last frame is still open, or its writer was killed. The complete frames of such a file are valid;
bytes after them belong to a write that was never acknowledged.
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
class SegmentFrame:
    """A complete frame: its kind, its payload without the kind byte, and its first and last position in the file."""

    kind: bytes
    payload: bytes
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class IntactFrames:
    """The complete frames at the beginning of a file; ``size`` is the position after the last of them."""

    frames: tuple[SegmentFrame, ...]
    size: int


class _Head(msgspec.Struct, array_like=True, frozen=True):
    spool_id: str
    seq: int


class _Foot(msgspec.Struct, array_like=True, frozen=True):
    rows: int
    labels: int
    sha256: bytes


def encode_frame(kind: bytes, payload: bytes) -> bytes:
    body = kind + payload
    return _PREFIX.pack(len(body), zlib.crc32(body)) + body


def segment_header(spool_id: str, seq: int) -> bytes:
    """Encode the beginning of a segment: magic bytes and header frame."""
    return MAGIC + encode_frame(HEAD, _encoder.encode(_Head(spool_id, seq)))


def segment_footer(*, rows: int, labels: int, sha256: bytes) -> bytes:
    """Encode the footer frame, which seals a segment; *sha256* is the digest of every byte before it."""
    return encode_frame(FOOT, _encoder.encode(_Foot(rows, labels, sha256)))


def whole_frames(content: bytes) -> IntactFrames:
    """Find the complete frames at the beginning of *content*; none when the magic bytes are missing."""
    if not content.startswith(MAGIC):
        return IntactFrames(frames=(), size=0)
    frames = tuple(_frames(content))
    return IntactFrames(frames=frames, size=frames[-1].end if frames else len(MAGIC))


def _frames(content: bytes) -> Iterator[SegmentFrame]:
    at = len(MAGIC)
    while at + _PREFIX.size <= len(content):
        length, crc = _PREFIX.unpack_from(content, at)
        end = at + _PREFIX.size + length
        body = content[at + _PREFIX.size : end]
        if length == 0 or end > len(content) or zlib.crc32(body) != crc:
            return
        yield SegmentFrame(kind=body[:1], payload=body[1:], start=at, end=end)
        at = end


def parse_segment(content: bytes, *, name: str = "segment") -> Segment:
    """
    Decode a sealed segment.

    Raises:
        SegmentCorrupt: The segment is not sealed, is truncated, or has a wrong checksum.
    """
    prefix = whole_frames(content)
    frames = prefix.frames
    if prefix.size != len(content) or len(frames) < 2 or frames[0].kind != HEAD or frames[-1].kind != FOOT:  # noqa: PLR2004 - a head and a foot
        raise SegmentCorrupt(
            f"Segment {name} is incomplete or damaged: only {prefix.size} of its {len(content)} bytes are valid.",
            remedy="Recover the valid rows with the function mendel.predictions.salvage.",
        )
    try:
        head = msgspec.msgpack.decode(frames[0].payload, type=_Head)
        foot = msgspec.msgpack.decode(frames[-1].payload, type=_Foot)
    except msgspec.DecodeError as error:
        raise SegmentCorrupt(f"The header or footer of segment {name} cannot be decoded: {error}.") from error
    if hashlib.sha256(memoryview(content)[: frames[-1].start]).digest() != foot.sha256:
        raise SegmentCorrupt(f"The content of segment {name} does not match the SHA-256 in the segment's footer.")
    blocks, labels = decode_frames(frames)
    if (sum(map(len, blocks)), len(labels)) != (foot.rows, foot.labels):
        raise SegmentCorrupt(
            f"Segment {name} does not contain the {foot.rows} rows and {foot.labels} labels that the "
            "segment's footer states."
        )
    return Segment(spool_id=head.spool_id, seq=head.seq, blocks=blocks, labels=labels)


def decode_frames(frames: tuple[SegmentFrame, ...]) -> tuple[tuple[PredictionBlock, ...], tuple[LabelRow, ...]]:
    """Decode the blocks and labels among *frames*, in order."""
    blocks = tuple(decode_block(f.payload) for f in frames if f.kind == BLOCK)
    return blocks, tuple(label for f in frames if f.kind == LABELS for label in decode_labels(f.payload))


def check_segment(spool_id: str, seq: int, content: bytes, checksum: Digest) -> None:
    """
    Check that *content* is a complete sealed segment with the given spool id and number.

    Raises:
        DigestMismatch: *content* does not have *checksum*.
        SegmentCorrupt: *content* cannot be decoded, or its header names another spool or number.
    """
    found = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if found != checksum:
        raise DigestMismatch(
            f"Segment {seq} of spool {spool_id} has digest {found}, not {checksum}.", remedy="Send the segment again."
        )
    segment = parse_segment(content, name=f"{spool_id}/{seq}")
    if (segment.spool_id, segment.seq) != (spool_id, seq):
        raise SegmentCorrupt(
            f"The header of segment {seq} of spool {spool_id} names another segment: {segment.seq} of "
            f"spool {segment.spool_id}."
        )


def read_segment(path: Path) -> Segment:
    """
    Read and decode a sealed segment file.

    Raises:
        SegmentCorrupt: The segment is not sealed, is truncated, or has a wrong checksum.
    """
    return parse_segment(path.read_bytes(), name=path.name)
