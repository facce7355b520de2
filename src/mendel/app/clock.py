"""The wall clock, which nothing below the application reads."""

from __future__ import annotations

from datetime import UTC, datetime


def utc_now() -> datetime:
    """The current time."""
    return datetime.now(UTC)
