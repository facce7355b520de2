"""Simulate healing of one model over recorded checks, under a policy that need not be the recorded one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from mendel.healing.causes import diagnose
from mendel.healing.decision import Act, Decision, Facts, Observe, Propose, Wait, decide
from mendel.healing.decision_records import DecisionRecord, recorded
from mendel.healing.entities import Cause, Incident, LookResult, Pause, Signal, SignalKind
from mendel.healing.healing_facts import HealingFacts
from mendel.healing.incidents import escalated, joined, opened
from mendel.healing.look_replay import judge_again
from mendel.healing.looks import Look
from mendel.healing.playbook_runs import PlaybookRun, RunState
from mendel.healing.playbooks import Playbook
from mendel.registry import PolicyDocument
from mendel.retraining import LabelSupply
from mendel.values import VersionRef


@dataclass(slots=True)
class _Open:
    """An open incident of the simulation, its last decision, and the kinds of its signals that have cleared."""

    incident: Incident
    last: DecisionRecord | None = None
    cleared: frozenset[SignalKind] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedAction:
    """A decision of the simulation that would have done something: act, propose, or escalate to a person."""

    incident: Incident
    record: DecisionRecord
    escalates: bool


class Simulation:
    """
    Healing of one model, from the checks that were recorded.

    A simulated run is assumed to end at once and to help; what was recorded later does not show its effect. Runs before
    the first look are unknown. The labels for a retraining are those of the last recorded decision that counted them.
    """

    def __init__(self, playbooks: Mapping[str, Playbook]) -> None:
        self._playbooks = playbooks
        self._open: list[_Open] = []
        self._runs: list[PlaybookRun] = []
        self._number = 0
        self._supply: LabelSupply | None = None
        self._about: tuple[HealingFacts, Pause | None] | None = None

    def see(self, look: Look, document: PolicyDocument) -> Iterator[SimulatedAction]:
        """Give what healing would have done because of *look* under *document*, and since the look before it."""
        yield from self._end_waits(look.at)
        if look.decided is not None:
            self._supply = look.decided.facts.supply or self._supply
        found = judge_again(look, document)
        if found is None or look.standing is None:
            return
        about = replace(look.standing.under(document, look.at), supply=self._supply)
        self._about = about, look.standing.pause
        self._resolve(found)
        self._join(found, about)
        yield from self._decide_all(look.at)

    def decision_about(self, ref: VersionRef, cause: Cause) -> DecisionRecord | None:
        """Give the last decision about *ref* and the family of *cause*; None without an open incident."""
        found = (one for one in self._open if one.incident.ref == ref and one.incident.cause.family == cause.family)
        return next((one.last for one in found), None)

    def _end_waits(self, now: datetime) -> Iterator[SimulatedAction]:
        """Decide again when a wait ended before *now*, because nothing else changed then."""
        ends = {one.last.until for one in self._open if one.last is not None and one.last.until is not None}
        for end in sorted(end for end in ends if end <= now):
            yield from self._decide_all(end)

    def _resolve(self, found: LookResult) -> None:
        raised = {signal.kind for signal in found.signals}
        for one in self._open:
            one.cleared = (one.cleared | set(found.clear)) - raised
        serving = {found.ref, found.canary}
        self._open = [
            one
            for one in self._open
            if one.incident.ref in serving
            and not set(one.incident.kinds) <= one.cleared
            and (one.incident.server not in found.well or SignalKind.UNAVAILABLE in one.incident.kinds)
        ]

    def _join(self, found: LookResult, about: HealingFacts) -> None:
        by_version: dict[VersionRef, list[Signal]] = {}
        for signal in found.signals:
            by_version.setdefault(signal.ref, []).append(signal)
        for ref, raised in by_version.items():
            mine = [one for one in self._open if one.incident.ref == ref]
            drifting = any(one.incident.cause in {Cause.DRIFT, Cause.OOD} for one in mine)
            for diagnosis in diagnose(raised, about.circumstances(ref, drifting=drifting)):
                family, server = diagnosis.cause.family, diagnosis.server
                same = (one for one in mine if one.incident.server == server and one.incident.cause.family == family)
                if (known := next(same, None)) is not None:
                    known.incident = replace(joined(known.incident, diagnosis, about.at), timeline=())
                    continue
                self._number += 1
                name = f"SIM-{self._number}"
                self._open.append(_Open(opened(diagnosis, about, incident_id=name, now=about.at)))

    def _decide_all(self, now: datetime) -> Iterator[SimulatedAction]:
        if self._about is None:
            return
        about, pause = self._about
        for one in self._open:
            facts = self._facts(one.incident, about, pause)
            decision = decide(one.incident, about.policy, facts, now)
            record = recorded(
                decision,
                record_id="",
                incident=one.incident.id,
                at=now,
                run=None,
                evidence=one.incident.context.reasons,
            )
            repeated, one.last = record.same_as(one.last), record
            if repeated and not isinstance(decision, Act | Propose):
                continue
            escalates = isinstance(decision, Observe) and decision.escalate
            if escalates:
                one.incident = escalated(one.incident, "; ".join(decision.reasons), now, actor="simulation")
            self._start(decision, one.incident, about, now)
            if escalates or isinstance(decision, Act | Propose):
                yield SimulatedAction(incident=one.incident, record=record, escalates=escalates)

    def _facts(self, incident: Incident, about: HealingFacts, pause: Pause | None) -> Facts:
        remedy = about.policy.remedy(incident.cause)
        return Facts(
            policy_hash=about.document.hash,
            playbook=None if remedy is None else self._playbooks.get(remedy),
            pause=pause,
            runs=tuple(self._runs),
            tried=tuple(run for run in self._runs if run.incident == incident.id),
            return_to=about.return_to,
            last_change=about.last_change,
            supply=about.supply,
        )

    def _start(self, decision: Decision, incident: Incident, about: HealingFacts, now: datetime) -> None:
        if isinstance(decision, Observe | Wait):
            return
        acts = isinstance(decision, Act)
        run = PlaybookRun(
            id=f"{incident.id}-{len(self._runs) + 1}",
            incident=incident.id,
            ref=incident.ref,
            playbook=decision.playbook,
            document=self._playbooks[decision.playbook],
            policy={},
            policy_hash=about.document.hash,
            state=RunState.SUCCEEDED if acts else RunState.PROPOSED,
            created_at=now,
            reason="simulated",
            facts={},
            started_at=now if acts else None,
            finished_at=now if acts else None,
        )
        self._runs.append(run)
