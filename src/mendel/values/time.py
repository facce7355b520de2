"""Time windows, and durations written as text such as ``5m``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec

from mendel.errors import InvalidValue

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time whose JSON text must contain a time zone."""
_LONGEST = timedelta(days=365_250)
"""The longest duration, a thousand years; added to the current time, it gives a valid date."""


def parse_duration(text: str) -> timedelta:
    """
    Parse ``500ms``, ``30s``, ``5m``, ``24h`` or ``7d``; anything else raises InvalidValue.

    >>> parse_duration("5m")
    datetime.timedelta(seconds=300)
    """
    found = _DURATION.fullmatch(str(text).strip())
    if not found:
        raise InvalidValue(f"{text!r} is not a duration.", remedy="Write a number and ms, s, m, h or d: 30s, 5m, 7d.")
    seconds = float(found.group(1)) * _UNITS[found.group(2)]
    if seconds > _LONGEST.total_seconds():
        raise InvalidValue(
            f"The duration {str(text)[:24]!r} is longer than 1000 years.", remedy="Write a shorter duration."
        )
    return timedelta(seconds=seconds)


def render_duration(span: timedelta) -> str:
    """
    Write a duration in the largest unit that divides it without remainder.

    >>> render_duration(timedelta(minutes=90)), render_duration(timedelta(days=7))
    ('90m', '7d')
    """
    milliseconds = round(span.total_seconds() * 1000)
    for unit in ("d", "h", "m", "s"):
        size = round(_UNITS[unit] * 1000)
        if milliseconds % size == 0 and milliseconds >= size:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0s"


def require_utc(moment: datetime) -> datetime:
    """Convert *moment* to UTC; a time without a time zone raises InvalidValue."""
    if moment.tzinfo is None:
        raise InvalidValue(f"{moment.isoformat()} has no time zone.", remedy="Give times in UTC, with Z or +00:00.")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise InvalidValue(f"{moment.isoformat()} lies outside the calendar in UTC.") from error


def to_micros(moment: datetime) -> int:
    """Convert *moment* to microseconds since 1970 in UTC, the unit of every stored time."""
    return (require_utc(moment) - EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """Convert microseconds since 1970 to an aware time in UTC."""
    return EPOCH + timedelta(microseconds=micros)


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """
    A half-open interval of time, ``[start, end)``, aware and in UTC.

    >>> day = Window(EPOCH, EPOCH + timedelta(days=1))
    >>> EPOCH in day, day.end in day
    (True, False)
    """

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", require_utc(self.start))
        object.__setattr__(self, "end", require_utc(self.end))
        if self.end < self.start:
            raise InvalidValue(f"The time window {self} ends before it starts.")

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end

    def __str__(self) -> str:
        return f"[{self.start.isoformat()}, {self.end.isoformat()})"

    @property
    def length(self) -> timedelta:
        return self.end - self.start

    @classmethod
    def before(cls, end: datetime, length: timedelta) -> Window:
        """Give the window of *length* that ends at *end*."""
        return cls(end - length, end)

    @classmethod
    def containing(cls, moment: datetime, length: timedelta) -> Window:
        """Give the window that contains *moment* when time since 1970 is cut into windows of *length*."""
        start = moment - (require_utc(moment) - EPOCH) % length
        return cls(start, start + length)
