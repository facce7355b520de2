"""Points in the registry's past, written as a time, as a duration before now, or as a sequence number of the ledger."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from mendel.errors import InvalidValue
from mendel.values import parse_duration, require_utc

_PREFIX = "seq:"
_MOST_DIGITS = 18
_FORMS = "Write a time with its zone (2026-03-01T12:00Z), a duration before now (2h), or a sequence number (seq:120)."


@dataclass(frozen=True, slots=True)
class AfterEntry:
    """The point just after the ledger entry with this sequence number."""

    sequence: int


PointInTime = AfterEntry | datetime


def parse_point(text: str, *, now: datetime) -> PointInTime:
    """
    Parse a point in time: ISO 8601 with zone, a duration before *now*, or a sequence number with or without ``seq:``.

    Raises:
        InvalidValue: *text* has none of these forms, the time has no zone, or the time is after *now*.

    >>> parse_point("seq:7", now=datetime.fromisoformat("2026-03-01T12:00Z"))
    AfterEntry(sequence=7)
    >>> parse_point("2h", now=datetime.fromisoformat("2026-03-01T12:00Z")).isoformat()
    '2026-03-01T10:00:00+00:00'
    """
    stripped = text.strip()
    digits = stripped.removeprefix(_PREFIX)
    if digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS:
        return AfterEntry(int(digits))
    moment = _ago(stripped, now) or _moment(stripped)
    if moment > now:
        raise InvalidValue(
            f"The time {moment.isoformat()} is in the future.", remedy=f"Give a time before {now.isoformat()}."
        )
    return moment


def _ago(text: str, now: datetime) -> datetime | None:
    """Give the time that is the duration *text* before *now*; None if *text* is no duration."""
    with suppress(InvalidValue):
        return now - parse_duration(text)  # a duration is at most 1000 years
    return None


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidValue(f"{text[:80]!r} is not a point in time.", remedy=_FORMS) from error
    return require_utc(moment)
