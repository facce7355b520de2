"""
Limits on the number of values in one request, checked before the values become objects in memory.

An empty list costs one byte of msgpack and some sixty bytes of memory, so a limit on the bytes of a request alone does
not limit the memory and the time that the request takes.
"""

from __future__ import annotations

import re
from typing import Final

from mendel.errors import InvalidRequest, TooLarge

MAX_VALUES: Final = 10_000_000
"""The most values in one request, for example 10,000 rows of 1,000 features."""

MAX_NAMES: Final = 4_000_000
"""The most keys in all objects of one request."""

MAX_PARTS: Final = 1_000_000
"""The most lists, objects and other parts in one request; a row of a request is one part."""

MAX_TOKENS: Final = MAX_VALUES + MAX_PARTS
"""The most values together with the brackets, headers and line ends around them."""

_ARRAYS, _MAPS = range(0x90, 0xA0), range(0x80, 0x90)
_SIZED: Final = {
    **dict.fromkeys((0xC4, 0xD9), 1),
    **dict.fromkeys((0xC5, 0xDA, 0xDC, 0xDE), 2),
    **dict.fromkeys((0xC6, 0xDB, 0xDD, 0xDF), 4),
    0xC7: 1,
    0xC8: 2,
    0xC9: 4,
}
"""How many bytes give the size of a msgpack value, by the first byte of the value."""
_EXTENSIONS: Final = frozenset((0xC7, 0xC8, 0xC9))
_PLAIN: Final = re.compile(
    rb"(?:[\x00-\x7f\xa0\xc0\xc2\xc3\xe0-\xff]++|[\xcc\xd0].|[\xcd\xd1\xd4].{2}|[\xca\xce\xd2].{4}"
    rb"|[\xcb\xcf\xd3].{8}|\xd5.{3}|\xd6.{5}|\xd7.{9}|\xd8.{17}|"
    + b"|".join(b"\\x%02x.{%d}" % (0xA0 + size, size) for size in range(1, 32))
    + rb")*+",
    re.DOTALL,
)
"""Msgpack values whose first byte tells their size."""


def check_json_size(text: bytes | str) -> None:
    """
    Raise TooLarge when the JSON *text* has too many values, lists or objects.

    Brackets, colons and commas inside of strings count too.
    """
    if len(text) <= MAX_PARTS:
        return
    if isinstance(text, str):
        parts, names, commas = text.count("[") + text.count("{"), text.count(":"), text.count(",")
    else:
        parts, names, commas = text.count(b"[") + text.count(b"{"), text.count(b":"), text.count(b",")
    check_parts(parts)
    _check_names(names)
    _check_tokens(parts + commas)


def check_csv_size(body: bytes) -> None:
    """Raise TooLarge when the CSV *body* has too many cells or lines."""
    lines = body.count(b"\n") + body.count(b"\r") - body.count(b"\r\n")
    _check_tokens(body.count(b",") + lines)


def check_msgpack_size(frame: bytes) -> None:
    """
    Raise TooLarge when *frame* has too many values, lists, objects or texts of more than 31 bytes.

    Raises:
        InvalidRequest: The frame ends within a value.
    """
    place, parts, names, values = 0, 0, 0, 0
    while len(frame) > MAX_PARTS and (place := _PLAIN.match(frame, place).end()) < len(frame):  # type: ignore[union-attr]
        kind = frame[place]
        place += 1
        if kind in _ARRAYS or kind in _MAPS:
            values += kind & 0x0F
            names += kind & 0x0F if kind in _MAPS else 0
        elif kind in _SIZED:
            size = int.from_bytes(frame[place : place + _SIZED[kind]])
            place += _SIZED[kind]
            if kind >= 0xDC:  # noqa: PLR2004 - arrays and maps
                values += size
                names += size if kind >= 0xDE else 0  # noqa: PLR2004 - maps
            else:
                place += size + (kind in _EXTENSIONS)
        else:
            raise InvalidRequest("The frame is not a message in msgpack.")
        parts += 1
        check_parts(parts)
        _check_names(names)
        _check_tokens(values)


def check_parts(count: int) -> None:
    """Raise TooLarge when a request has more than a million lists, objects or other parts."""
    if count > MAX_PARTS:
        raise TooLarge(
            f"The request has more than {MAX_PARTS} lists and objects.", remedy="Send fewer rows per request."
        )


def check_values(count: int) -> None:
    """Raise TooLarge when a request has more than ten million values."""
    _check_values(count, MAX_VALUES)


def _check_tokens(count: int) -> None:
    """Raise TooLarge when a text or msgpack has more values than allowed, whatever the structure around the values."""
    _check_values(count, MAX_TOKENS)


def _check_values(count: int, limit: int) -> None:
    if count > limit:
        raise TooLarge(f"The request has more than {MAX_VALUES} values.", remedy="Send fewer rows per request.")


def _check_names(count: int) -> None:
    if count > MAX_NAMES:
        raise TooLarge(
            f"The request has more than {MAX_NAMES} keys.",
            remedy="Send fewer rows per request, or lists of values instead of objects.",
        )
