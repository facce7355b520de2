"""The clocks; only the application reads them and passes times to other packages."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


def utc_now() -> datetime:
    """Give the current time in UTC."""
    return datetime.now(UTC)


def steady_time() -> timedelta:
    """Give the reading of a monotonic clock, which setting the machine's clock does not change; compare readings."""
    return timedelta(seconds=time.monotonic())
