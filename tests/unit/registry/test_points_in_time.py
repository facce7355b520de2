"""How points in the past are written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.errors import InvalidValue
from mendel.registry import AfterEntry, parse_point

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@given(
    moment=st.datetimes(
        min_value=datetime(1990, 1, 1), max_value=datetime(2026, 2, 1), timezones=st.timezones(), allow_imaginary=False
    )
)
def test_a_time_with_its_zone_is_that_time(moment):
    """ISO 8601 with a zone gives the same moment in UTC."""
    assert parse_point(moment.isoformat(), now=NOW) == moment.astimezone(UTC)


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ("2h", NOW - timedelta(hours=2)),
        ("0s", NOW),
        ("2026-03-01T12:00Z", NOW),
        ("2026-03-01T13:00+01:00", NOW),
        ("120", AfterEntry(120)),
        ("seq:120", AfterEntry(120)),
        (" seq:1 ", AfterEntry(1)),
    ],
)
def test_each_form(text, point):
    """A duration counts back from now; digits are a sequence number."""
    assert parse_point(text, now=NOW) == point


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("2026-03-01T12:00:01Z", "in the future"),
        ("2026-02-01T12:00", "has no time zone"),
        ("2026-02-01", "has no time zone"),
        ("yesterday", "not a point in time"),
        ("", "not a point in time"),
        ("seq:", "not a point in time"),
        ("seq:-1", "not a point in time"),
        ("-2h", "not a point in time"),
        ("9" * 30, "not a point in time"),
        ("9999-12-31T23:59:59-14:00", "calendar"),
    ],
)
def test_what_is_refused(text, told):
    """The future, a time without a zone, and anything else are refused with the reason."""
    with pytest.raises(InvalidValue, match=told):
        parse_point(text, now=NOW)
