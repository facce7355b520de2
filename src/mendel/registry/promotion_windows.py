"""The section ``promotion`` of a policy: weekly windows, freezes, and the versions deployed beside production."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from zoneinfo import ZoneInfo

from mendel.errors import InvalidPolicy, PromotionRefused
from mendel.values import Moment, require_utc

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(r"([a-z]{3})(?:-([a-z]{3}))? +(\d\d):(\d\d)-(\d\d):(\d\d)")
_DAY = timedelta(days=1)
_WEEK = timedelta(days=7)


class Beside(StrEnum):
    """The version that the policy deploys as shadow or fallback; ``none`` leaves the choice to the commands."""

    NONE = "none"
    FORMER = "former"
    NEWEST = "newest"


@dataclass(frozen=True, slots=True, kw_only=True)
class WeeklyWindow:
    """The hours in which promotions may begin on some days of the week: ``[start, end)`` since midnight."""

    days: tuple[int, ...]
    start: timedelta
    end: timedelta

    @classmethod
    def parse(cls, text: str) -> WeeklyWindow:
        """
        Read ``mon-thu 09:00-16:00`` or ``sat 00:00-24:00``; anything else raises InvalidPolicy.

        >>> WeeklyWindow.parse("fri-mon 22:00-24:00").days
        (4, 5, 6, 0)
        """
        found = _WINDOW.fullmatch(text.strip().lower())
        if found is None or found[1] not in DAYS or (found[2] or found[1]) not in DAYS:
            raise InvalidPolicy(f"promotion.windows: {text!r} is not a window.", remedy="Write: mon-thu 09:00-16:00")
        first, last = DAYS.index(found[1]), DAYS.index(found[2] or found[1])
        hours = [int(part) for part in found.groups()[2:]]
        start, end = timedelta(hours=hours[0], minutes=hours[1]), timedelta(hours=hours[2], minutes=hours[3])
        if max(hours[1], hours[3]) > 59 or not start < end <= _DAY:  # noqa: PLR2004 - minutes of an hour
            raise InvalidPolicy(
                f"promotion.windows: the end of {text!r} is not after its start, or not a time of the day.",
                remedy="Write two windows for hours beyond midnight: mon 22:00-24:00 and tue 00:00-02:00.",
            )
        return cls(days=tuple((first + step) % 7 for step in range((last - first) % 7 + 1)), start=start, end=end)

    def on(self, day: datetime, zone: tzinfo) -> tuple[datetime, datetime] | None:
        """Give the window on the date of *day* in UTC; None if the window is not on this day of the week."""
        if day.weekday() not in self.days:
            return None
        midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - local wall time, gets its zone below
        start, end = ((midnight + part).replace(tzinfo=zone).astimezone(UTC) for part in (self.start, self.end))
        return start, end


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """A time without promotions, ``[start, end)``, and why."""

    start: Moment
    end: Moment
    reason: str

    def __post_init__(self) -> None:
        if require_utc(self.start) >= require_utc(self.end) or not self.reason.strip():
            raise InvalidPolicy("promotion.freezes: a freeze needs an end after its start, and a reason.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PromotionPolicy:
    """
    The section ``promotion`` of a policy. Rollbacks, undeployments and demotions may happen at any time.

    Attributes:
        windows: When promotions and canaries may begin, such as ``mon-thu 09:00-16:00``; empty means at any time.
        timezone: The time zone of the windows, such as ``Europe/Berlin``.
        freezes: Times without promotions and new canaries.
        shadow: ``former`` makes the former production version the shadow after a promotion; ``newest`` makes each
            version the shadow that leaves development.
        fallback: ``former`` makes the former production version the fallback after a promotion.
    """

    windows: tuple[str, ...] = ()
    timezone: str = "UTC"
    freezes: tuple[Freeze, ...] = ()
    shadow: Beside = Beside.NONE
    fallback: Beside = Beside.NONE

    def __post_init__(self) -> None:
        _ = (self.weekly, self.zone)  # raises for invalid values
        if self.fallback is Beside.NEWEST:
            raise InvalidPolicy(
                "promotion.fallback must be 'former' or 'none': the newest version never served.",
                remedy="Set promotion.shadow to 'newest' instead.",
            )

    @property
    def weekly(self) -> tuple[WeeklyWindow, ...]:
        """The windows, decoded."""
        return tuple(WeeklyWindow.parse(text) for text in self.windows)

    @property
    def zone(self) -> tzinfo:
        """The time zone of the windows; raises InvalidPolicy for an unknown one."""
        if self.timezone == "UTC":
            return UTC
        try:
            return ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError) as error:
            raise InvalidPolicy(
                f"promotion.timezone: this machine knows no time zone {self.timezone!r}.",
                remedy="Write a name such as Europe/Berlin, or UTC.",
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """
    When a promotion may begin.

    ``at`` is None if the policy allows no time within its windows; ``why`` says what closes the time before ``at``, and
    is empty if promotions may begin now.
    """

    at: datetime | None
    why: str = ""


def next_opening(policy: PromotionPolicy, now: datetime) -> Opening:
    """
    Find the first time from *now* on at which a promotion may begin.

    >>> policy = PromotionPolicy(windows=("mon-thu 09:00-16:00",))
    >>> opening = next_opening(policy, datetime(2026, 11, 27, 12, 0, tzinfo=UTC))
    >>> opening.at.isoformat(), opening.why
    ('2026-11-30T09:00:00+00:00', 'outside the windows mon-thu 09:00-16:00 UTC')
    """
    moment, reasons = require_utc(now), list[str]()
    while True:
        frozen = next((f for f in policy.freezes if require_utc(f.start) <= moment < require_utc(f.end)), None)
        if frozen is not None:
            reasons.append(f"frozen until {require_utc(frozen.end):%Y-%m-%dT%H:%MZ}: {frozen.reason}")
            moment = require_utc(frozen.end)
        opens = _window_from(policy, moment)
        if opens is None:
            return Opening(at=None, why="; ".join([*reasons, "no window follows"]))
        if opens > moment:
            reasons.append(f"outside the windows {', '.join(policy.windows)} {policy.timezone}")
            moment = opens
        elif frozen is None:
            return Opening(at=moment, why="; ".join(dict.fromkeys(reasons)))


def require_open(policy: PromotionPolicy, now: datetime, what: str) -> None:
    """
    Check that the policy lets *what* reach users now.

    Raises:
        PromotionRefused: A freeze or the windows forbid it; the message says until when.
    """
    opening = next_opening(policy, now)
    if opening.why:
        until = "" if opening.at is None else f" before {opening.at:%Y-%m-%dT%H:%MZ}"
        raise PromotionRefused(
            f"The policy does not let {what} reach users{until}: {opening.why}.",
            reasons=(opening.why,),
            remedy="Change the section 'promotion' of the policy."
            if opening.at is None
            else f"Let the promotion wait with: mendel promote {what} --at {opening.at:%Y-%m-%dT%H:%MZ}",
        )


def _window_from(policy: PromotionPolicy, moment: datetime) -> datetime | None:
    """Find the first time from *moment* on that lies in a window; None if no window follows."""
    windows, zone = policy.weekly, policy.zone
    if not windows:
        return moment
    today = moment.astimezone(zone)
    spans = [w.on(today + _DAY * ahead, zone) for ahead in range(-1, _WEEK.days + 2) for w in windows]
    return min((max(start, moment) for start, end in filter(None, spans) if end > moment and start < end), default=None)
