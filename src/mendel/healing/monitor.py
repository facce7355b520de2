"""The monitor: fast checks for every second, slow checks for every window, and checks of a playbook's effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import numpy as np

from mendel.drift import DriftReport, MonitoringPolicy, Quality, Reference, is_drift_confirmed
from mendel.healing.drift_and_quality_checks import (
    Log,
    QualityLook,
    drift_report,
    findings_of_drift,
    findings_of_quality,
    onset,
    ood_onset,
    quality_of,
    read_quality,
    reference_of,
    registered_quality,
    told_drift,
    windows,
)
from mendel.healing.entities import Effect, EffectState, Finding, Incident, LookResult, Signal, SignalKind
from mendel.healing.fast_checks import (
    Findings,
    ServerDelays,
    findings_of_check,
    findings_of_servers,
    signal_kind_of,
    told,
)
from mendel.healing.policy import HealingPolicy
from mendel.healing.server_convergence import canary_of, convergence_of
from mendel.healing.server_watch import ServerWatch
from mendel.registry import Availability, PolicyDocument, Registry
from mendel.values import EPOCH, Deployment, Measured, ModelName, Table, VersionRef, Window, from_mapping

_COUNTED = frozenset({SignalKind.FAULTS, SignalKind.LATENCY, SignalKind.OOD})
_SERVERS = frozenset({SignalKind.LOAD_FAILURE, SignalKind.NOT_CONVERGING, SignalKind.UNAVAILABLE})


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
        """
        Check the counters and the convergence of the servers; this check is fast enough to run every second.

        Raises:
            ModelNotFound: The model has no version.
        """
        deployment = self._registry.lifecycle.deployment(model)
        if deployment.production is None:
            return LookResult(model=model, ref=None, at=now)
        ref, canary = VersionRef(model, deployment.production), _canary(deployment)
        document = self._registry.policies.of(model)
        available = self._availability(model, document, now)
        serving = any(line.generation_serving >= deployment.generation for _, line in available.reporting)
        if canary is not None and serving:  # whoever serves the whole generation serves its canary
            self._watch.note_served(model, canary.number)
        delays = self._delays(deployment, available, HealingPolicy.of(document.body).converge_within)
        check = self._registry.performance.check_rollback_triggers(model, now=now)
        seen = [findings_of_servers(deployment, available, delays, policy_hash=document.hash, now=now)]
        if check.version == ref.number:
            seen.append(findings_of_check(check, ref, generation=deployment.generation, now=now))
        return self._dated(self._with_past(_look_result(ref, canary, now, seen)), document)

    def _availability(self, model: ModelName, document: PolicyDocument, now: datetime) -> Availability:
        servers = self._watch.look(self._registry.performance.servers, now)
        return self._watch.availability(model, servers, document.rollback.silence)

    def _delays(self, deployment: Deployment, available: Availability, within: timedelta) -> ServerDelays:
        model, wanted = deployment.model, deployment.generation
        servers = [server for server, _ in available.reporting]
        return ServerDelays(
            late=frozenset(one.name for one in servers if self._watch.lacking(one, model, wanted) > within),
            behind=frozenset(one.name for one in servers if any(lack > within for lack in self._watch.lacks(one))),
        )

    def _with_past(self, look: LookResult) -> LookResult:
        """
        Mark a load failure if the version was served before, because then the version is not the cause.

        It is the cause if its calls ended worker processes, whatever it did before.
        """
        signals = tuple(
            replace(one, served_before=self._has_served(one.ref, look.at))
            if one.kind is SignalKind.LOAD_FAILURE and not one.ended_workers
            else one
            for one in look.signals
        )
        return replace(look, signals=signals)

    def _has_served(self, ref: VersionRef, now: datetime) -> bool:
        return self._watch.has_served(ref.model, ref.number) or self._has_answered(ref, now)

    def _has_answered(self, ref: VersionRef, now: datetime) -> bool:
        counted = self._registry.performance.snapshot(ref, Window(EPOCH, now))
        return bool(counted.num_requests) and (counted.error_rate or 0.0) < 1

    def _dated(self, look: LookResult, document: PolicyDocument) -> LookResult:
        """
        Set the time when the share of OOD rows began to rise; a retraining uses the rows after it.

        If the log does not show the rise yet, the current time is set: a late time never counts old rows as new.
        """
        ref = look.ref
        if ref is None or all(signal.kind is not SignalKind.OOD for signal in look.signals):
            return look
        window = Window.before(look.at, _monitoring(document).lookback)
        rows = self._log.predictions(ref.model, window, version=ref.number, columns=("event_time", "ood"))
        since = ood_onset(rows, bound=document.rollback.ood_rate) or look.at
        dated = (replace(s, since=since) if s.kind is SignalKind.OOD else s for s in look.signals)
        return replace(look, signals=tuple(dated))

    def check_log(self, model: ModelName, now: datetime) -> LookResult:
        """
        Run the slow checks: compare recent inputs with the version's reference, and its quality with its baseline.

        Raises:
            ModelNotFound: The model has no version.
            StoreUnavailable: The prediction log does not answer; drift and quality are then unknown.
        """
        deployment = self._registry.lifecycle.deployment(model)
        if deployment.production is None:
            return LookResult(model=model, ref=None, at=now)
        ref = VersionRef(model, deployment.production)
        document = self._registry.policies.of(model)
        policy, span = _monitoring(document), windows(_monitoring(document), now)
        reports = self._reports(ref, span, policy)
        if reports:
            whole = Window(span[0].start, span[-1].end)
            since = self._onset(ref, whole, policy) if is_drift_confirmed(reports, policy) else None
            drift = findings_of_drift(reports, ref, policy, since=since, policy_hash=document.hash, now=now)
        else:
            text = "drift not measured: the version has no drift reference"
            drift = Findings(looked=(Finding(kind=SignalKind.DRIFT, text=text, measured=False),))
        moved = any(report.drift_detected for report in reports)
        quality = self._quality(ref, document, policy, span[-1], now, moved=moved)
        return _look_result(ref, _canary(deployment), now, [drift, quality])

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
        policy, window = _monitoring(document), Window(min(since, now), now)
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

    def _quality(
        self,
        ref: VersionRef,
        document: PolicyDocument,
        policy: MonitoringPolicy,
        window: Window,
        now: datetime,
        *,
        moved: bool,
    ) -> Findings:
        floor = HealingPolicy.of(document.body).quality_floor
        table = self._log.labelled(ref.model, window, version=ref.number)
        # too few labels: no quality is measured, so the first rows are not needed
        baseline = self._baseline(ref, policy, now) if len(table) >= policy.min_rows else None
        reading = read_quality(table, baseline, policy, floor=floor)
        early = reading.crossed and self._low_from_the_start(ref, baseline, policy, floor, now)
        look = QualityLook(reading=reading, low_from_the_start=bool(early))
        return findings_of_quality(look, ref, moved=moved, policy_hash=document.hash, now=now, window=window)

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

    def _low_from_the_start(
        self, ref: VersionRef, baseline: Quality | None, policy: MonitoringPolicy, floor: float | None, now: datetime
    ) -> bool:
        first = self._first_table(ref, policy, now)
        return first is not None and bool(read_quality(first, baseline, policy, floor=floor).crossed)

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


def _monitoring(document: PolicyDocument) -> MonitoringPolicy:
    return from_mapping(MonitoringPolicy, document.section("monitoring"), at="monitoring")


def _canary(deployment: Deployment) -> VersionRef | None:
    number = canary_of(deployment)
    return None if number is None else VersionRef(deployment.model, number)


def _look_result(ref: VersionRef, canary: VersionRef | None, now: datetime, seen: Sequence[Findings]) -> LookResult:
    raised = {signal.kind for one in seen for signal in one.signals}
    clear = dict.fromkeys(kind for one in seen for kind in one.clear if kind not in raised)
    return LookResult(
        model=ref.model,
        ref=ref,
        at=now,
        canary=canary,
        looked=tuple(looked for one in seen for looked in one.looked),
        signals=tuple(signal for one in seen for signal in one.signals),
        clear=tuple(clear),
        well=tuple(server for one in seen for server in one.well),
    )


def _effect(found: dict[SignalKind, tuple[bool | None, str]]) -> Effect:
    text = "; ".join(dict.fromkeys(words for _, words in found.values()))
    states = [gone for gone, _ in found.values()]
    if any(gone is False for gone in states):
        return Effect(state=EffectState.PERSISTS, text=text)
    if states and all(states):
        return Effect(state=EffectState.GONE, text=text)
    return Effect(state=EffectState.NOT_MEASURED, text=text)
