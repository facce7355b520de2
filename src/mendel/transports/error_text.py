"""Limit the length of error messages in answers, because they may quote long input of the caller."""

from __future__ import annotations

from typing import Final

from mendel.errors import MendelError

_MOST_BYTES: Final = 2_000
"""The largest message in bytes; percent-encoded, it stays below the 8 KiB that gRPC clients accept as metadata."""


def text_of(error: MendelError) -> str:
    """Give message and remedy of *error*, cut to 2,000 bytes of UTF-8."""
    text = str(error)
    encoded = text.encode(errors="replace")
    return text if text.isascii() and len(text) <= _MOST_BYTES else encoded[:_MOST_BYTES].decode(errors="ignore")
