"""What a hub checks of each model again and again, and that healing acts on it."""

from __future__ import annotations

from datetime import datetime

from mendel.drift import MonitoringPolicy
from mendel.durable import Clock
from mendel.healing import Healing, LookResult, Monitor
from mendel.registry import Registry
from mendel.values import ModelName, Window, from_mapping


class ModelChecks:
    """Looks at models, and lets healing act on what is found."""

    def __init__(self, registry: Registry, monitor: Monitor, healing: Healing, clock: Clock) -> None:
        self._registry = registry
        self._monitor = monitor
        self._healing = healing
        self._clock = clock
        self._log_checked: dict[ModelName, datetime] = {}

    def check_counters(self, model: ModelName) -> LookResult:
        """Check what servers count and report."""
        now = self._clock()
        look = self._monitor.check_counters(model, now)
        self._healing.respond_to(look, now)
        return look

    def check_log(self, model: ModelName) -> LookResult:
        """Check logged inputs for drift, and labelled answers for quality."""
        now = self._clock()
        look = self._monitor.check_log(model, now)
        self._healing.respond_to(look, now)
        return look

    def check_log_when_due(self, model: ModelName) -> None:
        """Check the log once per window of the monitoring policy."""
        section = self._registry.policies.of(model).section("monitoring")
        every = from_mapping(MonitoringPolicy, section, at="monitoring").every
        due = Window.containing(self._clock(), every).start
        if self._log_checked.get(model) != due:
            self._log_checked[model] = due
            self.check_log(model)

    def check_all(self, model: ModelName) -> LookResult:
        """Check counters and log at once."""
        fast, slow = self.check_counters(model), self.check_log(model)
        return LookResult(
            model=model,
            ref=slow.ref,
            at=slow.at,
            looked=(*fast.looked, *slow.looked),
            signals=(*fast.signals, *slow.signals),
            clear=(*fast.clear, *slow.clear),
        )
