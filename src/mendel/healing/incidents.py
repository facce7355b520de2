"""Pure functions over incidents: open, join, resolve and escalate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from mendel.healing.causes import Diagnosis
from mendel.healing.entities import (
    Cause,
    Incident,
    IncidentContext,
    IncidentStatus,
    LookResult,
    Signal,
    SignalKind,
    SignalState,
    TimelineEntry,
)
from mendel.healing.healing_facts import HealingFacts
from mendel.healing.playbook_runs import (
    RunState,
    StepState,
)
from mendel.values import Severity, Stage, VersionRef

_MAX_REASONS = 100
_MAX_EVIDENCE = 20
"""The maximum number of stored evidence entries of one incident; the ledger has all of them."""


def opened(diagnosis: Diagnosis, facts: HealingFacts, *, incident_id: str, now: datetime) -> Incident:
    """Make the incident for *diagnosis*."""
    first = diagnosis.signals[0]
    told = "; ".join(diagnosis.reasons)
    return Incident(
        id=incident_id,
        ref=first.ref,
        cause=diagnosis.cause,
        severity=diagnosis.severity,
        title=_title(diagnosis),
        description=f"{first.ref}: {told}",
        context=IncidentContext(
            model_version=str(first.ref.number),
            stage=_stage(first.ref, facts),
            reasons=diagnosis.reasons,
            avg_error_rate=_reading(diagnosis, SignalKind.FAULTS, "value"),
            avg_ood_rate=_reading(diagnosis, SignalKind.OOD, "value"),
            window_minutes=_reading(diagnosis, first.kind, "window_minutes"),
            policy_hash=facts.document.hash,
        ),
        opened_at=now,
        last_seen=now,
        kinds=diagnosis.kinds,
        states=_raised((), diagnosis.signals, now),
        since=diagnosis.since,
        evidence=tuple(signal.evidence for signal in diagnosis.signals),
        timeline=(TimelineEntry(at=now, kind="opened", text=f"{diagnosis.cause}: {told}"),),
        server=diagnosis.server,
        resource_type="ml_model" if diagnosis.server is None else "server",
    )


def _stage(ref: VersionRef, facts: HealingFacts) -> str:
    if ref == facts.canary:
        return Stage.CANARY.value
    return "" if facts.stage is None else facts.stage.value


def _title(diagnosis: Diagnosis) -> str:
    ref = diagnosis.signals[0].ref
    if diagnosis.server is not None:
        slow = SignalKind.UNAVAILABLE not in diagnosis.kinds
        return f"{'Slow start' if slow else 'Silent server'}: {diagnosis.server}"
    if diagnosis.cause is Cause.CANARY_LOAD_FAILURE:
        return f"Canary cannot be loaded: {ref}"
    if SignalKind.LOAD_FAILURE in diagnosis.kinds:
        return f"Version cannot be loaded: {ref}"
    names = {Cause.DRIFT: "Input drift", Cause.OOD: "Out-of-distribution input"}
    return f"{names.get(diagnosis.cause, 'Model performance degradation detected')}: {ref.model}"


def since_after(incident: Incident, kinds: Sequence[SignalKind], since: datetime | None) -> datetime | None:
    """
    Compute when the change began, after signals of *kinds* with the estimate *since* join *incident*.

    The latest estimate is used: training on too few new rows only delays the run, but old rows among the new ones teach
    the old behaviour. An estimate after the opening of the incident only means that the log did not show the change
    yet; then an estimate from drift is used, because drift is measured on the rows.
    """
    if since is None or incident.since is None or all(kind in incident.kinds for kind in kinds):
        return incident.since or since
    if SignalKind.DRIFT in kinds and incident.since >= incident.opened_at:
        return since
    return max(since, incident.since)


def joined(incident: Incident, diagnosis: Diagnosis, now: datetime, *, promoted: datetime | None = None) -> Incident:
    """
    Add *diagnosis* to *incident*: the timeline gets new signals, and repeated signals are counted.

    A new kind of signal, a worse signal of a known kind, and signals after a new promotion make the decision about the
    incident open again, also if the incident was escalated.

    Args:
        promoted: When the version last entered production.
    """
    new_kinds = tuple(kind for kind in diagnosis.kinds if kind not in incident.kinds)
    known = {state.kind: state.severity.rank for state in incident.signal_states}
    worse = any(signal.severity.rank > known.get(signal.kind, -1) for signal in diagnosis.signals)
    again = promoted is not None and promoted > incident.asked_at
    graver = diagnosis.severity.rank > incident.severity.rank
    after = replace(
        incident,
        repeats=incident.repeats + 1,
        last_seen=max(incident.last_seen, now),
        kinds=(*incident.kinds, *new_kinds),
        states=_raised(incident.signal_states, diagnosis.signals, now),
        cause=min(incident.cause, diagnosis.cause, key=lambda cause: cause.rank) if new_kinds else incident.cause,
        severity=diagnosis.severity if graver else incident.severity,
        since=since_after(incident, diagnosis.kinds, diagnosis.since),
    )
    if worse or again:
        after = replace(after, escalated=False, reopened_at=now, unmeasured_since=None)
    if not worse and not again and not _names_more(diagnosis, incident):
        return after
    told = "; ".join(diagnosis.reasons)
    evidence = (*incident.evidence, *(signal.evidence for signal in diagnosis.signals))[-_MAX_EVIDENCE:]
    context = replace(incident.context, reasons=tuple(dict.fromkeys((*incident.context.reasons, *diagnosis.reasons))))
    return replace(after, evidence=evidence, context=context, description=f"{incident.description}; {told}").noting(
        TimelineEntry(at=now, kind="joined", text=f"{diagnosis.severity}: {told}")
    )


def _raised(states: Sequence[SignalState], signals: Sequence[Signal], now: datetime) -> tuple[SignalState, ...]:
    found = {state.kind: state for state in states}
    for signal in signals:
        before = found.get(signal.kind)
        worst = max(signal.severity, before.severity if before else signal.severity, key=lambda one: one.rank)
        cleared = None if before is None else before.cleared_at
        found[signal.kind] = SignalState(kind=signal.kind, severity=worst, raised_at=now, cleared_at=cleared)
    return tuple(found.values())


def cleared(incident: Incident, look: LookResult) -> Incident:
    """
    Note which kinds of signal *look* measured within bounds, after their newest signal.

    Kinds that were already clear stay as they are. Looks from before the change whose effect is being measured do not
    count.
    """
    if incident.unmeasured_since is not None and look.at <= incident.unmeasured_since:
        return incident
    states = tuple(
        replace(state, cleared_at=look.at)
        if state.kind in look.clear and not state.clear and look.at >= state.raised_at
        else state
        for state in incident.signal_states
    )
    return incident if states == incident.signal_states else replace(incident, states=states)


def ended(incident: Incident, look: LookResult) -> str | None:
    """
    Explain why *incident* is over at the time of *look*, whose clear kinds are already noted; None if it is not over.

    An incident is over when every kind of its signals is clear, or when its version no longer serves; after a playbook
    took the version away, only measurements of the version that serves now end the incident.
    """
    if look.ref is None:
        return "no version is in production"
    if not still_serves(incident, look) and incident.unmeasured_since is None:
        canary = incident.cause is Cause.CANARY_LOAD_FAILURE
        return f"{incident.ref} is no longer {'the canary' if canary else 'in production'}"
    if incident.server in look.well and SignalKind.UNAVAILABLE not in incident.kinds:
        return f"{incident.server} serves every deployment that it received, or was stopped"
    if all(state.clear for state in incident.signal_states):
        return f"the signal is gone: {_told(incident, look)}"
    return None


def _told(incident: Incident, look: LookResult) -> str:
    """Give the readings of *look* about the incident's kinds of signal, and the times of the earlier ones."""
    now = [one.text for one in look.looked if one.kind in incident.kinds and one.kind in look.clear]
    earlier = [
        f"{state.kind} within its bound since {state.cleared_at.isoformat(timespec='seconds')}"
        for state in incident.signal_states
        if state.cleared_at is not None and state.kind not in look.clear
    ]
    return "; ".join((*now, *earlier))


def still_serves(incident: Incident, look: LookResult) -> bool:
    """Whether the incident's version still has the place that the incident is about at the time of *look*."""
    if incident.cause is Cause.CANARY_LOAD_FAILURE:
        return incident.ref == look.canary
    return incident.ref in {look.ref, look.canary}


def unmeasured(incident: Incident, why: str, now: datetime, *, since: datetime, actor: str) -> Incident:
    """Give the incident that stays open, because the effect of a playbook's change at *since* was not measured."""
    entry = TimelineEntry(at=now, kind="unmeasured", text=why, actor=actor)
    return replace(incident, unmeasured_since=since).noting(entry)


def _names_more(diagnosis: Diagnosis, incident: Incident) -> bool:
    """
    Whether *diagnosis* names further models that a server lacks; other reasons contain readings, which change at every
    look.
    """
    known = incident.context.reasons
    return diagnosis.server is not None and len(known) < _MAX_REASONS and not set(diagnosis.reasons) <= set(known)


def resolved(incident: Incident, how: str, now: datetime, *, actor: str) -> Incident:
    """Give the incident with status resolved by *actor*."""
    entry = TimelineEntry(at=now, kind="resolved", text=how, actor=actor)
    return replace(incident, status=IncidentStatus.RESOLVED, resolved_at=now).noting(entry)


def escalated(incident: Incident, why: str, now: datetime, *, actor: str) -> Incident:
    """Give the incident with severity raised by one and marked as waiting for a person."""
    worse = list(Severity)[min(incident.severity.rank + 1, Severity.CRITICAL.rank)]
    entry = TimelineEntry(at=now, kind="escalated", text=why, actor=actor)
    return replace(incident, escalated=True, severity=worse, status=IncidentStatus.INVESTIGATING).noting(entry)


def final_state(outcomes: dict[str, Any], states: tuple[StepState, ...]) -> RunState:
    """
    Compute the final state of a run from the facts and states of its steps.

    The run is failed after a failed step, rejected if the candidate failed its gates, and ineffective if the signal
    persists or the candidate was removed again.
    """
    if StepState.FAILED in states:
        return RunState.FAILED
    if outcomes.get("verdict") == "undecided":
        return RunState.UNDECIDED
    if outcomes.get("verdict") == "fail":
        return RunState.REJECTED
    if outcomes.get("effect") == "persists" or outcomes.get("taken_back"):
        return RunState.INEFFECTIVE
    return RunState.SUCCEEDED


def _reading(diagnosis: Diagnosis, kind: SignalKind, name: str) -> float | None:
    found = next((signal for signal in diagnosis.signals if signal.kind is kind), None)
    value = None if found is None else found.evidence.readings.get(name)
    return float(value) if isinstance(value, int | float) else None
