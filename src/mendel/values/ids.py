"""Identifiers that sort by time."""

from __future__ import annotations

import random
from datetime import datetime
from uuid import UUID

from mendel.values.time import to_micros


def uuid7(now: datetime, rng: random.Random) -> UUID:
    """
    Make a UUIDv7 (RFC 9562, section 5.7) of 48 bits of milliseconds and 74 random bits.

    >>> from mendel.values.time import EPOCH
    >>> str(uuid7(EPOCH, random.Random(0)))[14]
    '7'
    """
    milliseconds = to_micros(now) // 1000
    value = (
        (milliseconds & (2**48 - 1)) << 80 | 0x7 << 76 | rng.getrandbits(12) << 64 | 0b10 << 62 | rng.getrandbits(62)
    )
    return UUID(int=value)
