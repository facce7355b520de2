"""When promotions may begin: weekly windows in a time zone, and freezes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.errors import InvalidPolicy
from mendel.registry.promotion_windows import Beside, Freeze, PromotionPolicy, WeeklyWindow, next_opening

FREEZE = Freeze(
    start=datetime(2026, 12, 20, tzinfo=UTC), end=datetime(2027, 1, 2, tzinfo=UTC), reason="the year's books"
)
OFFICE = PromotionPolicy(windows=("mon-thu 09:00-16:00",), timezone="Europe/Berlin", freezes=(FREEZE,))


@pytest.mark.parametrize(
    ("now", "opens"),
    [
        ("2026-12-01T10:00Z", None),
        ("2026-12-01T08:00Z", None),  # 09:00 in Berlin, the first moment of the window
        ("2026-12-01T15:00Z", "2026-12-02T08:00Z"),  # 16:00 in Berlin is no longer inside
        ("2026-12-04T10:00Z", "2026-12-07T08:00Z"),  # a Friday
        ("2026-12-18T10:00Z", "2027-01-04T08:00Z"),  # the next window is within the freeze
        ("2026-07-01T07:30Z", None),  # summer time
    ],
)
def test_the_next_opening(now, opens):
    """Promotions begin in a window of the local week and outside every freeze; the reasons are told."""
    moment = datetime.fromisoformat(now)
    opening = next_opening(OFFICE, moment)
    assert opening.at == (moment if opens is None else datetime.fromisoformat(opens))
    assert bool(opening.why) is (opens is not None)
    assert ("frozen until 2027-01-02T00:00Z: the year's books" in opening.why) is (now == "2026-12-18T10:00Z")


def test_without_windows_only_freezes_close():
    """A policy without windows is open whenever no freeze holds; the end of a freeze is open."""
    policy = PromotionPolicy(freezes=(FREEZE,))
    assert next_opening(policy, FREEZE.start).at == FREEZE.end
    assert next_opening(policy, FREEZE.end).why == ""


@given(st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)))
def test_an_opening_is_open(now):
    """The time that an opening names is not before now, and is itself open."""
    opening = next_opening(OFFICE, now)
    assert opening.at >= now
    assert next_opening(OFFICE, opening.at).why == ""


@pytest.mark.parametrize(
    "text", ["mon 9-16", "xyz 09:00-16:00", "mon 16:00-09:00", "mon 09:00-25:00", "mon 09:75-10:00"]
)
def test_what_is_no_window(text):
    """A window that cannot be read is refused when the policy is set."""
    with pytest.raises(InvalidPolicy, match=r"promotion\.windows"):
        PromotionPolicy(windows=(text,))


def test_days_run_over_the_end_of_the_week():
    """The days of a window may run from Saturday to Monday."""
    days = WeeklyWindow.parse("sat-mon 00:00-24:00").days
    assert [(after - before) % 7 for before, after in pairwise(days)] == [1, 1]


@pytest.mark.parametrize(
    ("section", "said"), [({"timezone": "Mars/Olympus"}, "no time zone"), ({"fallback": Beside.NEWEST}, "never served")]
)
def test_sections_that_are_refused(section, said):
    """An unknown time zone and a fallback that never served are refused by name."""
    with pytest.raises(InvalidPolicy, match=said):
        PromotionPolicy(**section)


def test_a_freeze_needs_a_reason():
    """A freeze without a reason is refused."""
    with pytest.raises(InvalidPolicy, match="a reason"):
        Freeze(start=FREEZE.end, end=FREEZE.end + timedelta(days=1), reason=" ")
