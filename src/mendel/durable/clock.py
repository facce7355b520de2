"""The types of two arguments: a clock and a source of unique ids. Below ``app`` no code reads the system clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

Clock = Callable[[], datetime]
"""Returns the current time, aware and in UTC."""

NewId = Callable[[], str]
"""Returns a new unique id."""
