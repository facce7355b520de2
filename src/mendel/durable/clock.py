"""Time and chance as arguments: who needs them is given a clock and a source of ids."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

Clock = Callable[[], datetime]
"""Gives the time now, aware and in UTC."""

NewId = Callable[[], str]
"""Gives a fresh unique id."""
