"""Count the fields of an encoded gRPC message before the message is decoded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from mendel.serving import check_parts

_LOOKED_AT_BYTES: Final = 1 << 16
"""Smaller messages cannot have so many fields that they matter."""

_Nested = Mapping[int, "_Nested"]
_NESTED: Final[_Nested] = {5: {5: {}}, 6: {}}
"""The fields of ``inference.ModelInferRequest`` whose messages count: inputs with their contents, and outputs."""

_VARINT: Final = re.compile(rb"[\x80-\xff]{0,9}+[\x00-\x7f]")
_FIXED: Final = {1: 8, 3: 0, 4: 0, 5: 4}
"""The bytes of a value of fixed size, by wire type."""


def check_message_size(message: bytes | memoryview) -> None:
    """
    Raise TooLarge when *message* has more than a million fields, those of nested messages included.

    In a message of another type than ``ModelInferRequest`` too many fields may be counted, never too few of the
    message itself. The count of a malformed message ends where the message cannot be read.
    """
    if len(message) <= _LOOKED_AT_BYTES:
        return
    count = 0
    waiting = [(0, len(message), _NESTED)]
    while waiting:
        place, end, nested = waiting.pop()
        while place < end:
            count += 1
            if not count & 0xFFF:
                check_parts(count)
            tag, place = _varint(message, place)
            match tag & 7:
                case 0:
                    _, place = _varint(message, place)
                case 2:
                    size, place = _varint(message, place)
                    if (inner := nested.get(tag >> 3)) is not None and place + size <= end:
                        waiting.append((place, place + size, inner))
                    place += size
                case kind:
                    place += _FIXED.get(kind, end)
    check_parts(count)


def _varint(message: bytes | memoryview, place: int) -> tuple[int, int]:
    """Read the number at *place*; gives the number and the place behind it, or the end if no number is there."""
    if place < len(message) and (first := message[place]) < 0x80:  # noqa: PLR2004 - a single byte
        return first, place + 1
    found = _VARINT.match(message, place)
    if found is None:
        return 0, len(message)
    value = 0
    for byte in reversed(found[0]):
        value = value << 7 | byte & 0x7F
    return value, found.end()
