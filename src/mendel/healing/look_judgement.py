"""Judge the facts of a look by a policy: pure functions, for the monitor and for decisions that are taken again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from mendel.drift import MonitoringPolicy, is_drift_confirmed, quality_signal, rejudge
from mendel.healing.drift_and_quality_checks import (
    QualityLook,
    findings_of_drift,
    findings_of_quality,
    unknown_quality,
)
from mendel.healing.entities import Finding, LookResult, SignalKind
from mendel.healing.fast_checks import Findings, findings_of_check, findings_of_servers
from mendel.healing.looks import CounterFacts, LogFacts
from mendel.healing.policy import HealingPolicy
from mendel.healing.server_convergence import canary_of
from mendel.registry import PolicyDocument, judge_performance
from mendel.values import Deployment, VersionRef, from_mapping

_NO_REFERENCE = "drift not measured: the version has no drift reference"


def monitoring_of(document: PolicyDocument) -> MonitoringPolicy:
    """Read the section ``monitoring`` of a policy."""
    return from_mapping(MonitoringPolicy, document.section("monitoring"), at="monitoring")


def canary_ref(deployment: Deployment) -> VersionRef | None:
    """Give the version on the second route; None without a canary."""
    number = canary_of(deployment)
    return None if number is None else VersionRef(deployment.model, number)


def judge_counters(facts: CounterFacts, document: PolicyDocument, now: datetime) -> LookResult:
    """Find the signals in the counters and the servers of a model; the deployment must have a production version."""
    deployment = facts.deployment
    ref = VersionRef(deployment.model, deployment.routes[0].version)
    delays = facts.delays(HealingPolicy.of(document.body).converge_within)
    seen = [findings_of_servers(deployment, facts.available, delays, policy_hash=document.hash, now=now)]
    if facts.measured is not None:
        check = judge_performance(ref.model, facts.measured, document)
        seen.append(findings_of_check(check, ref, generation=deployment.generation, now=now))
    return _with_past(_look_result(ref, canary_ref(deployment), now, seen), facts)


def judge_log(facts: LogFacts, document: PolicyDocument, now: datetime) -> LookResult:
    """Find the signals in a study of the prediction log."""
    policy = monitoring_of(document)
    reports = tuple(rejudge(report, policy) for report in facts.reports)
    if reports:
        since = facts.since if is_drift_confirmed(reports, policy) else None
        drift = findings_of_drift(reports, facts.ref, policy, since=since, policy_hash=document.hash, now=now)
    else:
        drift = Findings(looked=(Finding(kind=SignalKind.DRIFT, text=_NO_REFERENCE, measured=False),))
    moved = any(report.drift_detected for report in reports)
    quality = findings_of_quality(
        judge_quality(facts, document), facts.ref, moved=moved, policy_hash=document.hash, now=now, window=facts.window
    )
    return _look_result(facts.ref, facts.canary, now, [drift, quality])


def judge_quality(facts: LogFacts, document: PolicyDocument) -> QualityLook:
    """Compare the quality in the newest window with the version's own, and with the floor of the policy."""
    policy, floor = monitoring_of(document), HealingPolicy.of(document.body).quality_floor
    unknown = unknown_quality(policy)
    baseline = facts.baseline or unknown
    reading = quality_signal(baseline, facts.current or unknown, policy, floor=floor)
    early = quality_signal(baseline, facts.first or unknown, policy, floor=floor)
    return QualityLook(reading=reading, low_from_the_start=bool(reading.crossed and early.crossed))


def _with_past(look: LookResult, facts: CounterFacts) -> LookResult:
    """
    Mark a load failure if the version was served before, because then the version is not the cause; and give a share of
    OOD rows the time when it began to rise.

    The version is the cause if its calls ended worker processes, whatever it did before. If the log does not show the
    rise yet, the current time is set: a late time never counts old rows as new.
    """
    signals = []
    for one in look.signals:
        if one.kind is SignalKind.LOAD_FAILURE and not one.ended_workers:
            signals.append(replace(one, served_before=one.ref.number in facts.served))
        elif one.kind is SignalKind.OOD:
            signals.append(replace(one, since=facts.ood_since or look.at))
        else:
            signals.append(one)
    return replace(look, signals=tuple(signals))


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
