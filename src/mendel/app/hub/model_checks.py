"""Check each model for faults, drift and loss of quality, and let healing react to the signals."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from mendel.drift import MonitoringPolicy
from mendel.durable import Clock
from mendel.healing import Healing, LookResult, Monitor, Observation, SignalKind
from mendel.registry import Registry
from mendel.values import ModelName, Window, from_mapping

_QUIET: Final = timedelta(seconds=5)
"""The pause between checks of a model that gets no requests."""


class ModelChecks:
    """Runs the checks of the monitor on models, and passes the results to healing."""

    def __init__(self, registry: Registry, monitor: Monitor, healing: Healing, clock: Clock) -> None:
        self._registry = registry
        self._monitor = monitor
        self._healing = healing
        self._clock = clock
        self._log_checked: dict[ModelName, datetime] = {}
        self._quiet_at: dict[ModelName, datetime] = {}

    def check_counters(self, model: ModelName) -> LookResult:
        """Check the counters that servers reported for *model*: faults, latency, load."""
        return self._respond_to(self._monitor.observe_counters(model, self._clock()))

    def check_counters_when_due(self, model: ModelName) -> None:
        """Check the counters of *model* unless the check less than 5 s ago found no requests and no signal."""
        now, quiet_at = self._clock(), self._quiet_at.pop(model, None)
        if quiet_at is not None and abs(now - quiet_at) < _QUIET:
            self._quiet_at[model] = quiet_at
        elif _is_quiet(self.check_counters(model)):
            self._quiet_at[model] = now

    def check_log(self, model: ModelName) -> LookResult:
        """Check the prediction log of *model*: drift of its inputs, and quality of its labelled predictions."""
        return self._respond_to(self._monitor.observe_log(model, self._clock()))

    def check_log_when_due(self, model: ModelName) -> None:
        """Check the prediction log of *model* unless it was already checked in the current monitoring window."""
        due = self._study(model).start
        if self._log_checked.get(model) != due:
            self._log_checked[model] = due
            self.check_log(model)

    def check_all(self, model: ModelName) -> LookResult:
        """Check the counters and the prediction log of *model* now, and combine the results."""
        fast, slow = self.check_counters(model), self.check_log(model)
        return LookResult(
            model=model,
            ref=slow.ref,
            at=slow.at,
            looked=(*fast.looked, *slow.looked),
            signals=(*fast.signals, *slow.signals),
            clear=(*fast.clear, *slow.clear),
            next_study=self._study(model).end,
        )

    def _respond_to(self, seen: Observation) -> LookResult:
        self._healing.looks.note(seen)
        self._healing.respond_to(seen.found, seen.found.at)
        return seen.found

    def _study(self, model: ModelName) -> Window:
        """Give the current interval of ``monitoring.every``; the prediction log is checked once in each."""
        section = self._registry.policies.of(model).section("monitoring")
        return Window.containing(self._clock(), from_mapping(MonitoringPolicy, section, at="monitoring").every)


def _is_quiet(look: LookResult) -> bool:
    measured = {found.kind for found in look.looked if found.measured}
    return not look.signals and measured <= {SignalKind.NOT_CONVERGING}
