"""The text of an error as a door sends it: bounded, because it may quote what the caller sent."""

from __future__ import annotations

from typing import Final

from mendel.errors import MendelError

_MOST_BYTES: Final = 2_000
"""Percent-encoded still below the 8 KiB that gRPC clients take as trailing metadata."""


def text_of(error: MendelError) -> str:
    """Give message and remedy of *error*, cut to 2,000 bytes of UTF-8."""
    text = str(error)
    encoded = text.encode(errors="replace")
    return text if len(encoded) == len(text) <= _MOST_BYTES else encoded[:_MOST_BYTES].decode(errors="ignore")
