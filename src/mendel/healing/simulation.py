"""Simulate healing of one model over recorded checks, under a policy that need not be the recorded one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from mendel.healing.causes import diagnose
from mendel.healing.decision import Act, Decision, Observe, Propose, Wait, decide
from mendel.healing.decision_facts import Facts
from mendel.healing.decision_records import DecisionRecord, recorded
from mendel.healing.entities import Cause, Incident, LookResult, Pause, Signal
from mendel.healing.healing_facts import HealingFacts
from mendel.healing.incidents import cleared, ended, escalated, joined, opened
from mendel.healing.look_replay import judge_again
from mendel.healing.looks import Look
from mendel.healing.playbook_runs import PlaybookRun, RunState
from mendel.healing.playbooks import Playbook
from mendel.healing.policy import REPLAY, HealingPolicy
from mendel.healing.remedies import Former, remedy_for
from mendel.registry import PolicyDocument
from mendel.retraining import LabelSupply
from mendel.values import VersionRef


@dataclass(slots=True)
class _Open:
    """An open incident of the simulation, and its last decision."""

    incident: Incident
    last: DecisionRecord | None = None


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
    the first look are unknown. The labels for a retraining are those of the last recorded decision that counted them. A
    replay of the former version gives the recorded result about the same version; without a recorded result within
    ``healing.replay_within``, it is ``unknown``.
    """

    def __init__(self, playbooks: Mapping[str, Playbook]) -> None:
        self._playbooks = playbooks
        self._open: list[_Open] = []
        self._runs: list[PlaybookRun] = []
        self._number = 0
        self._supply: LabelSupply | None = None
        self._replays: dict[VersionRef, dict[str, Any]] = {}
        self._about: tuple[HealingFacts, Pause | None] | None = None

    def see(self, look: Look, document: PolicyDocument) -> Iterator[SimulatedAction]:
        """Give what healing would have done because of *look* under *document*, and since the look before it."""
        yield from self._end_waits(look.at)
        if look.decided is not None:
            self._supply = look.decided.facts.supply or self._supply
            ended_replays = (run for run in look.decided.facts.tried if run.playbook == REPLAY and run.state.over)
            self._replays.update({run.ref: run.facts for run in ended_replays})
        self._end_replays(HealingPolicy.of(document.body), look.at)
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
        for one in self._open:
            one.incident = cleared(one.incident, found)
        self._open = [one for one in self._open if ended(one.incident, found) is None]

    def _end_replays(self, policy: HealingPolicy, now: datetime) -> None:
        for place, run in enumerate(self._runs):
            if run.playbook != REPLAY or run.state is not RunState.RUNNING:
                continue
            facts = self._replays.get(run.ref)
            if facts is None and now < run.created_at + policy.replay_within:
                continue
            unknown = {"former": Former.UNKNOWN.value, "compared": "no replay of the former version was recorded"}
            self._runs[place] = replace(run, state=RunState.SUCCEEDED, finished_at=now, facts=facts or unknown)

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
                    tenure = about.tenure(ref)
                    promoted = None if tenure is None else tenure.start
                    after = joined(known.incident, diagnosis, about.at, promoted=promoted)
                    known.incident = replace(after, timeline=())
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
                facts,
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
        facts = Facts(
            policy_hash=about.document.hash,
            pause=pause,
            runs=tuple(self._runs),
            tried=tuple(run for run in self._runs if run.incident == incident.id),
            return_to=about.return_to,
            served_for=about.served_for(incident.ref, incident.asked_at),
            last_change=about.last_change,
            supply=about.supply,
        )
        remedy = remedy_for(incident, about.policy, facts).playbook
        return facts if remedy is None else replace(facts, playbook=self._playbooks.get(remedy))

    def _start(self, decision: Decision, incident: Incident, about: HealingFacts, now: datetime) -> None:
        if isinstance(decision, Observe | Wait):
            return
        acts, asks = isinstance(decision, Act), decision.playbook == REPLAY
        run = PlaybookRun(
            id=f"{incident.id}-{len(self._runs) + 1}",
            incident=incident.id,
            ref=incident.ref,
            playbook=decision.playbook,
            document=self._playbooks[decision.playbook],
            policy={},
            policy_hash=about.document.hash,
            state=RunState.RUNNING if asks else RunState.SUCCEEDED if acts else RunState.PROPOSED,
            created_at=now,
            reason="simulated",
            facts={},
            started_at=now if acts else None,
            finished_at=now if acts and not asks else None,
        )
        self._runs.append(run)
