"""Make the snapshots of the registry: one for each minute and version, with what the last study measured."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from mendel.durable import Clock
from mendel.healing import LogFacts, Look, LookBook, LookKind
from mendel.registry import MINUTE, Registry, StudyReadings
from mendel.values import Measured, Measurement, VersionRef, Window

_MOST_MINUTES: Final = 10
_STUDY_LASTS: Final = timedelta(hours=1)
"""A study is not shown in snapshots when a study after it is overdue for so long."""


class MinuteSnapshots:
    """Makes the snapshots of the minutes since the last call, and after a pause of the last 10 minutes."""

    def __init__(self, registry: Registry, looks: LookBook, clock: Clock) -> None:
        self._registry = registry
        self._looks = looks
        self._clock = clock
        self._made: datetime | None = None

    def make(self) -> None:
        """Store the snapshots of every minute that ended since the last call."""
        end = Window.containing(self._clock(), MINUTE).start
        start = max(self._made or end - MINUTE, end - _MOST_MINUTES * MINUTE)
        while start < end:
            minute = Window(start, start + MINUTE)
            self._registry.performance.record_minute(minute, self._studies(minute))
            self._made = start = minute.end

    def merge_old(self) -> int:
        """Merge old minutes into hours, and old hours into days; gives the number of replaced snapshots."""
        replaced = 0
        while found := self._registry.performance.merge_old_snapshots(self._clock()):
            replaced += found
        return replaced

    def _studies(self, minute: Window) -> dict[VersionRef, StudyReadings]:
        found: dict[VersionRef, StudyReadings] = {}
        for model in self._registry.versions.models():
            look = self._looks.last(model, LookKind.LOG, by=minute.end)
            if look is not None and look.log is not None and _is_current(look, minute):
                found[look.log.ref] = readings_of(look.log)
        return found


def _is_current(look: Look, minute: Window) -> bool:
    return minute.start - look.until <= _STUDY_LASTS


def readings_of(facts: LogFacts) -> StudyReadings:
    """Give the drift of the newest window and the quality in it; None for what was not measured."""
    last = facts.reports[-1] if facts.reports else None
    metrics = {} if facts.current is None else facts.current.metrics
    return StudyReadings(
        input_drift_score=None if last is None else _value(last.input_drift_score),
        output_drift_score=None if last is None else _value(last.output_drift_score),
        accuracy=_value(metrics.get("accuracy")),
        calibration_error=_value(metrics.get("calibration_error")),
    )


def _value(measurement: Measurement | None) -> float | None:
    return measurement.value if isinstance(measurement, Measured) else None
