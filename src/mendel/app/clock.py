"""The clocks, which nothing below the application reads."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


def utc_now() -> datetime:
    """The current time."""
    return datetime.now(UTC)


def steady_time() -> timedelta:
    """The time since some moment in the past; it never goes back, whoever sets the machine's clock."""
    return timedelta(seconds=time.monotonic())
