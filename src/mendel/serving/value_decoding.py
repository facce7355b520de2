"""Decode one value of a request; the result depends only on the value and on its column in the input contract."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from mendel.serving.input_contract import Content, ContractColumn

Decode = Callable[[Any], Any]
"""Converts a value other than None to the form that a batch stores; raises WrongValue."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_BEYOND_MICROS: Final = re.compile(r"[.,]\d{6}(\d+)")
_OF_A_FIELD: Final = re.compile(r"(year|month|day|hour|minute|second|microsecond)\b[^']*$")
_UNITS: Final = {
    "s": (1_000_000_000, "a second"),
    "ms": (1_000_000, "a millisecond"),
    "us": (1_000, "a microsecond"),
    "ns": (1, "a nanosecond"),
}
"""The nanoseconds and the name of each unit in which a column can hold times."""
_NANOSECOND_YEARS: Final = (1678, 2261)
_FIXED_OFFSET: Final = re.compile(r"UTC([+-])(\d\d):(\d\d)")
_LARGEST_DECIMAL: Final = 400


class WrongValue(Exception):
    """The value does not fit the column; the text is the end of the message "Feature X of row N is V; ..."."""


def decoder_of(column: ContractColumn) -> Decode:
    """Give the function that decodes the values of *column*."""
    return _DECODERS[column.content](column)


def wanted(column: ContractColumn) -> str:  # noqa: PLR0911 - a table
    """Describe the values that *column* accepts, for an error message."""
    match column.content:
        case Content.FLOAT:
            return "a number"
        case Content.INTEGER:
            low, high = column.bounds()
            return "a whole number" if high >= (1 << 63) - 1 else f"a whole number from {low} to {high}"
        case Content.BOOLEAN:
            return "true or false"
        case Content.TEXT:
            return "text"
        case Content.DATETIME:
            return "a time, in ISO 8601 or in seconds since 1970"
        case Content.DATE:
            return "a date, for example 2024-01-31"
        case Content.DECIMAL:
            return "a decimal number, as text or number"
        case _:
            return "text, a number, true or false"


def _float(column: ContractColumn) -> Decode:
    largest = _LARGEST.get(column.dtype, math.inf)

    def decode(value: Any) -> float:
        if type(value) is not float and type(value) is not int:
            raise WrongValue
        try:
            number = float(value)
        except OverflowError:
            raise WrongValue("not a finite number") from None
        if not math.isfinite(number) or abs(number) > largest:
            raise WrongValue("not a finite number")
        return number

    return decode


_LARGEST: Final = {"float16": 65519.0, "float32": 3.4028235677973362e38}
"""Up to this magnitude a number rounds to a finite number of the type."""


def _integer(column: ContractColumn) -> Decode:
    low, high = column.bounds()

    def decode(value: Any) -> int:
        if type(value) is float:
            if not math.isfinite(value):
                raise WrongValue("not a finite number")
            if value != int(value):
                raise WrongValue
            value = int(value)
        if type(value) is not int:
            raise WrongValue
        if not low <= value <= high:
            raise WrongValue(f"outside the range from {low} to {high}")
        return value

    return decode


def _boolean(column: ContractColumn) -> Decode:
    del column

    def decode(value: Any) -> bool:
        if type(value) is bool:
            return value
        if type(value) in {int, float} and value in {0, 1}:
            return bool(value)
        raise WrongValue

    return decode


def _text(column: ContractColumn) -> Decode:
    del column

    def decode(value: Any) -> str:
        if type(value) is not str:
            raise WrongValue
        return value

    return decode


def _datetime(column: ContractColumn) -> Decode:
    zone = zone_of(column.dtype) or UTC
    as_object = column.dtype == "object"
    unit = "us" if as_object else _unit_of(column.dtype)
    length, called = _UNITS[unit]

    def decode(value: Any) -> Any:
        try:
            moment = _moment(value, zone)
            nanos = (moment - _EPOCH) // _MICROSECOND * 1000 + _nanos_beyond(value)
        except OverflowError:
            raise WrongValue("outside the years 1 to 9999") from None
        except (ValueError, TypeError) as error:
            raise _not_a_time(error) from None
        if unit == "ns" and not _NANOSECOND_YEARS[0] <= moment.year <= _NANOSECOND_YEARS[1]:
            raise WrongValue(f"outside the years {_NANOSECOND_YEARS[0]} to {_NANOSECOND_YEARS[1]} of the column")
        if nanos % length:
            raise WrongValue(f"finer than {called}, the unit of the column")
        return moment.replace(tzinfo=None) if as_object else nanos if unit == "ns" else nanos // 1000

    return decode


def _not_a_time(error: Exception) -> WrongValue:
    """Make the error for a value that is not a time; it names the field of a text that is out of range."""
    field = str(error)
    return WrongValue(f"not a time: {field}") if _OF_A_FIELD.match(field) else WrongValue()


def _nanos_beyond(value: Any) -> int:
    """Give the nanoseconds below the last full microsecond of a time in text, which Python does not read."""
    beyond = _BEYOND_MICROS.search(value) if type(value) is str else None
    if beyond is None:
        return 0
    digits = beyond[1].rstrip("0")
    if len(digits) > 3:  # noqa: PLR2004 - nine digits of a second
        raise WrongValue("finer than a nanosecond")
    return int(digits.ljust(3, "0"))


def _unit_of(dtype: str) -> str:
    return dtype.removeprefix("datetime64[").removesuffix("]").partition(", ")[0]


def zone_of(dtype: str) -> tzinfo | None:
    """
    Give the zone of a dtype of pandas, UTC for a dtype without a zone; None for a dtype of another library or zone.

    >>> zone_of("datetime64[ns, UTC+02:00]"), zone_of("datetime64[us]")
    (datetime.timezone(datetime.timedelta(seconds=7200)), datetime.timezone.utc)
    """
    name = dtype.removeprefix("datetime64[").removesuffix("]").partition(", ")[2]
    if _unit_of(dtype) not in _UNITS:
        return None
    if name in {"", "UTC"}:
        return UTC
    if fixed := _FIXED_OFFSET.fullmatch(name):
        sign, hours, minutes = fixed.groups()
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        return timezone(-offset if sign == "-" else offset)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _moment(value: Any, zone: Any) -> datetime:
    """Give the time in UTC; text without a zone is in *zone*."""
    if type(value) is str:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    if type(value) in {int, float}:
        return _EPOCH + timedelta(seconds=value)
    raise WrongValue


def _date(column: ContractColumn) -> Decode:
    del column

    def decode(value: Any) -> date:
        if type(value) is not str:
            raise WrongValue
        try:
            return date.fromisoformat(value.removesuffix("T00:00:00"))
        except ValueError as error:
            raise _not_a_time(error) from None

    return decode


def _decimal(column: ContractColumn) -> Decode:
    del column

    def decode(value: Any) -> Decimal:
        if type(value) not in {str, int, float}:
            raise WrongValue
        text = value if isinstance(value, str) else repr(value)
        try:
            if len(text) > _LARGEST_DECIMAL:
                raise WrongValue
            number = Decimal(text)
        except (InvalidOperation, ValueError):
            raise WrongValue from None
        if not number.is_finite() or not math.isfinite(float(number)):
            raise WrongValue("not a finite number")
        return number

    return decode


def _mixed(column: ContractColumn) -> Decode:
    del column

    def decode(value: Any) -> Any:
        if type(value) not in {bool, int, float, str}:
            raise WrongValue
        if type(value) is float and not math.isfinite(value):
            raise WrongValue("not a finite number")
        if type(value) is int and not -(1 << 63) <= value < 1 << 64:
            raise WrongValue("a number that does not fit in 64 bits")
        return value

    return decode


_DECODERS: Final[dict[Content, Callable[[ContractColumn], Decode]]] = {
    Content.FLOAT: _float,
    Content.INTEGER: _integer,
    Content.BOOLEAN: _boolean,
    Content.TEXT: _text,
    Content.DATETIME: _datetime,
    Content.DATE: _date,
    Content.DECIMAL: _decimal,
    Content.MIXED: _mixed,
}
