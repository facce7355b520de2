"""Convert the metadata that a caller gives to values that JSON can hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from mendel.errors import InvalidInput


def plain_metadata(given: Mapping[str, Any], *, at: str = "metadata") -> dict[str, Any]:
    """
    Convert *given* to builtins: times become ISO text, paths become text, enumeration members their values.

    NaN becomes None, as in every JSON that Mendel writes.

    Raises:
        InvalidInput: A value is of a type that JSON cannot hold; the message names its key.

    >>> from pathlib import Path
    >>> plain_metadata({"when": date(2024, 1, 1), "file": Path("rows.csv")})
    {'when': '2024-01-01', 'file': 'rows.csv'}
    """
    return {str(key): _plain(value, f"{at}.{key}") for key, value in given.items()}


def _plain(value: Any, at: str) -> Any:  # noqa: C901, PLR0911 - one line per kind of value
    if type(value).__name__ in {"NAType", "NaTType"}:  # pandas' nulls; NaT is also a datetime
        return None
    match value:
        case Enum():
            return _plain(value.value, at)
        case None | bool() | int():
            return value
        case float():
            return float(value) if math.isfinite(value) else None
        case str():
            return str.__str__(value)
        case datetime() | date() | time():
            return value.isoformat()
        case PurePath() | UUID() | Decimal() | timedelta():
            return str(value)
        case Mapping():
            return plain_metadata(value, at=at)
        case list() | tuple():
            return [_plain(inner, f"{at}[{place}]") for place, inner in enumerate(value)]
        case set() | frozenset():
            return sorted((_plain(inner, at) for inner in value), key=repr)
    if type(value).__module__ == "numpy":  # not imported here: most commands never use an array
        if type(value).__name__ == "datetime64":
            return str(value)
        return _plain(value.tolist(), at)
    raise InvalidInput(
        f"{at} is a {type(value).__module__}.{type(value).__qualname__}, which JSON cannot hold.",
        remedy="Give text, a number, a time, a path, a list or a mapping.",
    )
