"""The monitor: fast checks for every second, slow checks for every window, and checks of a playbook's effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from mendel.drift import DriftReport, MonitoringPolicy, Quality, Reference, is_drift_confirmed
from mendel.healing.drift_and_quality_checks import (
    Log,
    drift_report,
    onset,
    ood_onset,
    quality_of,
    read_quality,
    reference_of,
    registered_quality,
    told_drift,
    windows,
)
from mendel.healing.entities import Effect, EffectState, Incident, LookResult, Signal, SignalKind
from mendel.healing.fast_checks import signal_kind_of, told
from mendel.healing.look_judgement import canary_ref, judge_counters, judge_log, judge_quality, monitoring_of
from mendel.healing.looks import CounterFacts, LogFacts, ServerFact
from mendel.healing.policy import HealingPolicy
from mendel.healing.server_convergence import canary_of, convergence_of
from mendel.healing.server_watch import NOTHING, ServerWatch
from mendel.registry import Availability, PolicyDocument, Presence, Registry
from mendel.values import EPOCH, Deployment, Measured, ModelName, Table, VersionRef, Window

_COUNTED = frozenset({SignalKind.FAULTS, SignalKind.LATENCY, SignalKind.OOD})
_SERVERS = frozenset({SignalKind.LOAD_FAILURE, SignalKind.NOT_CONVERGING, SignalKind.UNAVAILABLE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What a check of a model found, with its facts and the policy; without a production version, nothing is judged."""

    found: LookResult
    document: PolicyDocument | None = None
    counters: CounterFacts | None = None
    log: LogFacts | None = None


class Monitor:
    """
    Checks models and reports signals; changes nothing.

    A monitor remembers the servers' reports between checks, and caches the references and baselines of versions.
    """

    def __init__(self, registry: Registry, log: Log, watch: ServerWatch) -> None:
        self._registry = registry
        self._log = log
        self._watch = watch
        self._references: dict[VersionRef, Reference | None] = {}
        self._baselines: dict[VersionRef, Quality] = {}

    def look(self, model: ModelName, now: datetime) -> tuple[Signal, ...]:
        """Give the signals of :meth:`check_counters`."""
        return self.check_counters(model, now).signals

    def check_counters(self, model: ModelName, now: datetime) -> LookResult:
        """Give what :meth:`observe_counters` found."""
        return self.observe_counters(model, now).found

    def check_log(self, model: ModelName, now: datetime) -> LookResult:
        """Give what :meth:`observe_log` found."""
        return self.observe_log(model, now).found

    def observe_counters(self, model: ModelName, now: datetime) -> Observation:
        """
        Check the counters and the convergence of the servers; this check is fast enough to run every second.

        Raises:
            ModelNotFound: The model has no version.
        """
        deployment = self._registry.lifecycle.deployment(model)
        if deployment.production is None:
            return Observation(found=LookResult(model=model, ref=None, at=now))
        document = self._registry.policies.of(model)
        facts = self._counter_facts(deployment, document, now)
        found = judge_counters(facts, document, now)
        if any(signal.kind is SignalKind.OOD for signal in found.signals):
            facts = replace(facts, ood_since=self._ood_since(deployment, document, now))
            found = judge_counters(facts, document, now)
        return Observation(found=found, document=document, counters=facts)

    def _counter_facts(self, deployment: Deployment, document: PolicyDocument, now: datetime) -> CounterFacts:
        model, canary = deployment.model, canary_of(deployment)
        available = self._availability(model, document, now)
        serving = any(line.generation_serving >= deployment.generation for _, line in available.reporting)
        if canary is not None and serving:  # whoever serves the whole generation serves its canary
            self._watch.note_served(model, canary)
        measured = self._registry.performance.measure(model, now=now)
        failed = {line.failed_version for _, line in available.reporting}
        return CounterFacts(
            deployment=deployment,
            measured=None if measured is None or measured.version != deployment.production else measured,
            servers=self._server_facts(deployment, available),
            served=tuple(
                number
                for number in (deployment.production, canary)
                if number is not None and number in failed and self._has_served(VersionRef(model, number), now)
            ),
        )

    def _availability(self, model: ModelName, document: PolicyDocument, now: datetime) -> Availability:
        servers = self._watch.look(self._registry.performance.servers, now)
        return self._watch.availability(model, servers, document.rollback.silence)

    def _server_facts(self, deployment: Deployment, available: Availability) -> tuple[ServerFact, ...]:
        found = []
        for presence, held in available.by_presence:
            for server, line in held:
                fact = ServerFact(name=server.name, presence=presence, line=replace(line, detail=None))
                if presence is Presence.REPORTING:
                    lacking = self._watch.lacking(server, deployment.model, deployment.generation)
                    behind = max(self._watch.lacks(server), default=NOTHING)
                    fact = replace(fact, lacking_s=lacking.total_seconds(), behind_s=behind.total_seconds())
                else:
                    fact = replace(fact, received_at=server.received_at)
                found.append(fact)
        return tuple(found)

    def _has_served(self, ref: VersionRef, now: datetime) -> bool:
        return self._watch.has_served(ref.model, ref.number) or self._has_answered(ref, now)

    def _has_answered(self, ref: VersionRef, now: datetime) -> bool:
        counted = self._registry.performance.snapshot(ref, Window(EPOCH, now))
        return bool(counted.num_requests) and (counted.error_rate or 0.0) < 1

    def _ood_since(self, deployment: Deployment, document: PolicyDocument, now: datetime) -> datetime | None:
        """Give the time when the share of OOD rows began to rise; a retraining uses the rows after it."""
        window = Window.before(now, monitoring_of(document).lookback)
        columns = ("event_time", "ood")
        rows = self._log.predictions(deployment.model, window, version=deployment.production, columns=columns)
        return ood_onset(rows, bound=document.rollback.ood_rate)

    def observe_log(self, model: ModelName, now: datetime) -> Observation:
        """
        Run the slow checks: compare recent inputs with the version's reference, and its quality with its baseline.

        Raises:
            ModelNotFound: The model has no version.
            StoreUnavailable: The prediction log does not answer; drift and quality are then unknown.
        """
        deployment = self._registry.lifecycle.deployment(model)
        if deployment.production is None:
            return Observation(found=LookResult(model=model, ref=None, at=now))
        document = self._registry.policies.of(model)
        facts = self._log_facts(VersionRef(model, deployment.production), canary_ref(deployment), document, now)
        return Observation(found=judge_log(facts, document, now), document=document, log=facts)

    def _log_facts(
        self, ref: VersionRef, canary: VersionRef | None, document: PolicyDocument, now: datetime
    ) -> LogFacts:
        policy, span = monitoring_of(document), windows(monitoring_of(document), now)
        reports = self._reports(ref, span, policy)
        whole = Window(span[0].start, span[-1].end)
        confirmed = bool(reports) and is_drift_confirmed(reports, policy)
        table = self._log.labelled(ref.model, span[-1], version=ref.number)
        facts = LogFacts(
            ref=ref,
            canary=canary,
            reports=reports,
            since=self._onset(ref, whole, policy) if confirmed else None,
            window=span[-1],
            current=quality_of(table, policy),
            # too few labels: no quality is measured, so the first rows are not needed
            baseline=self._baseline(ref, policy, now) if len(table) >= policy.min_rows else None,
            first=None,
        )
        low = judge_quality(facts, document).reading.crossed
        return replace(facts, first=self._first_rows(ref, policy, now)) if low else facts

    def effect(self, incident: Incident, *, since: datetime, now: datetime) -> Effect:
        """
        Check whether the incident's signals are gone from the serving version, measured from *since* to *now* only.

        ``gone``: every kind of signal was measured within bounds; ``persists``: some kind is beyond its bound.
        """
        deployment = self._registry.lifecycle.deployment(incident.ref.model)
        if deployment.production is None:
            return Effect(state=EffectState.NOT_MEASURED, text="no version is in production")
        ref, kinds = VersionRef(incident.ref.model, deployment.production), set(incident.kinds)
        document = self._registry.policies.of(ref.model)
        found: dict[SignalKind, tuple[bool | None, str]] = {}
        if kinds & _COUNTED:
            found |= self._counted(ref, since, now)
        if kinds & _SERVERS:
            seen = convergence_of(deployment, self._availability(ref.model, document, now))
            calm = None if not seen.servers else seen.converged
            found |= dict.fromkeys(_SERVERS, (calm, str(seen)))
        policy, window = monitoring_of(document), Window(min(since, now), now)
        if SignalKind.DRIFT in kinds:
            # production began with this change, so all rows of the first grain count
            start = window.start if ref == incident.ref else Window.containing(window.start, policy.every).start
            found[SignalKind.DRIFT] = self._drift_gone(ref, Window(start, window.end), policy)
        if SignalKind.QUALITY in kinds:
            found[SignalKind.QUALITY] = self._quality_gone(ref, window, document, policy)
        return _effect({kind: found.get(kind, (None, f"{kind} cannot be measured")) for kind in incident.kinds})

    def _counted(self, ref: VersionRef, since: datetime, now: datetime) -> dict[SignalKind, tuple[bool | None, str]]:
        span = max(now - since, timedelta(milliseconds=1))
        check = self._registry.performance.check_rollback_triggers(ref.model, window=span, now=now)
        return {
            signal_kind_of(one.criterion): (not one.holds if isinstance(one.measurement, Measured) else None, told(one))
            for one in check.evidence
            if signal_kind_of(one.criterion) in _COUNTED
        }

    def _drift_gone(self, ref: VersionRef, window: Window, policy: MonitoringPolicy) -> tuple[bool | None, str]:
        reports = self._reports(ref, (window,), policy)
        if not reports:
            return None, "drift not measured: the version has no drift reference"
        detected = reports[-1].drift_detected
        return None if detected is None else not detected, told_drift(reports[-1])

    def _quality_gone(
        self, ref: VersionRef, window: Window, document: PolicyDocument, policy: MonitoringPolicy
    ) -> tuple[bool | None, str]:
        floor = HealingPolicy.of(document.body).quality_floor
        table = self._log.labelled(ref.model, window, version=ref.number)
        reading = read_quality(table, self._baseline(ref, policy, window.end), policy, floor=floor)
        return None if reading.crossed is None else not reading.crossed, f"quality {reading.reason}"

    def _reports(self, ref: VersionRef, span: Sequence[Window], policy: MonitoringPolicy) -> tuple[DriftReport, ...]:
        if ref not in self._references:
            self._references[ref] = reference_of(self._registry.versions.tree(ref))
        reference = self._references[ref]
        if reference is None:
            return ()
        return tuple(drift_report(self._log, ref, reference, window, policy) for window in span)

    def _onset(self, ref: VersionRef, window: Window, policy: MonitoringPolicy) -> datetime | None:
        reference = self._references[ref]
        return None if reference is None else onset(self._log, ref, reference, window, policy)

    def _baseline(self, ref: VersionRef, policy: MonitoringPolicy, now: datetime) -> Quality | None:
        """
        Give the quality registered with the version, else the quality of its first labelled rows in production, or
        None.
        """
        registered = registered_quality(self._registry.versions.get(ref), policy)
        if registered is not None or ref in self._baselines:
            return registered or self._baselines[ref]
        first = self._first_rows(ref, policy, now)
        if first is not None and isinstance(first[policy.metric], Measured):
            self._baselines[ref] = first
        return first

    def _first_rows(self, ref: VersionRef, policy: MonitoringPolicy, now: datetime) -> Quality | None:
        first = self._first_table(ref, policy, now)
        return None if first is None else quality_of(first, policy)

    def _first_table(self, ref: VersionRef, policy: MonitoringPolicy, now: datetime) -> Table | None:
        tenures = [tenure for tenure in self._registry.lifecycle.history(ref.model) if tenure.version == ref.number]
        if not tenures:
            return None
        start, length = min(tenure.start for tenure in tenures), policy.lookback
        table = self._log.labelled(ref.model, Window(start, start + length), version=ref.number)
        while len(table) < policy.min_rows and start + length < now:
            length *= 2
            table = self._log.labelled(ref.model, Window(start, start + length), version=ref.number)
        return table.take(np.argsort(table["timestamp"], kind="stable")[: policy.min_rows]) if len(table) else None


def _effect(found: dict[SignalKind, tuple[bool | None, str]]) -> Effect:
    text = "; ".join(dict.fromkeys(words for _, words in found.values()))
    states = [gone for gone, _ in found.values()]
    if any(gone is False for gone in states):
        return Effect(state=EffectState.PERSISTS, text=text)
    if states and all(states):
        return Effect(state=EffectState.GONE, text=text)
    return Effect(state=EffectState.NOT_MEASURED, text=text)
