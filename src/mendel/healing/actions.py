"""The actions of playbooks, each executed as durable steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from mendel.durable import Clock, Payload, Transaction, UnitOfWork, WorkflowFunction
from mendel.healing.durable_steps import Done, Playing, Prefixed, Refused
from mendel.healing.entities import EffectState, Incident, TimelineEntry
from mendel.healing.healing_facts import ACTOR, actor_of
from mendel.healing.incident_journal import Journal
from mendel.healing.incidents import unmeasured
from mendel.healing.playbooks import Action
from mendel.healing.ports import EffectMonitor, FormerVersion, HealingStore
from mendel.healing.remedies import Former
from mendel.healing.server_convergence import canary_of, convergence_of
from mendel.registry import Registry, availability_of
from mendel.values import Stage, VersionRef, from_micros, render_duration, to_micros

_LONGEST_WAIT = timedelta(seconds=1)
_LONGEST_WATCH = timedelta(seconds=15)


class Actions:
    """
    Executes the actions of playbooks.

    Args:
        former: Lets the former version answer an incident's rows.
        retrain: The function that retrains a model; it runs inside the playbook's workflow.
    """

    def __init__(
        self,
        unit: UnitOfWork,
        registry: Registry,
        *,
        watcher: EffectMonitor,
        former: FormerVersion,
        retrain: WorkflowFunction,
        journal: Journal,
        clock: Clock,
    ) -> None:
        self._unit = unit
        self._registry = registry
        self._watcher = watcher
        self._former = former
        self._retrain = retrain
        self._journal = journal
        self._clock = clock
        self._by_name: Mapping[Action, Callable[[Playing], Done]] = {
            Action.ROLL_BACK: self._roll_back,
            Action.END_CANARY: self._end_canary,
            Action.AWAIT_CONVERGENCE: self._await_convergence,
            Action.REPLAY_FORMER: self._replay_former,
            Action.RETRAIN: self._train,
            Action.PROMOTE_CANDIDATE: self._promote_candidate,
            Action.REJECT_CANDIDATE: self._reject_candidate,
            Action.WATCH: self._watch,
            Action.RESOLVE_INCIDENT: self._resolve_incident,
            Action.ESCALATE: self._escalate,
            Action.NOTIFY: self._notify,
        }

    def perform(self, playing: Playing) -> Done:
        """
        Execute the action of one step.

        Raises:
            Refused: The action cannot be done.
        """
        return self._by_name[playing.step.action](playing)

    def _roll_back(self, playing: Playing) -> Done:
        model, leaving = playing.run.ref.model, _serving(playing)

        def seen() -> Payload:
            return {"production": self._registry.lifecycle.deployment(model).production}

        now_serving = playing.once("serving", seen)["production"]
        if now_serving != leaving:
            raise Refused(f"{model}@{leaving} is no longer in production; the production version is {now_serving}.")

        def back() -> Payload:
            done = self._registry.lifecycle.roll_back(
                model, by=actor_of(playing.run.id), reason=_because(playing), step=playing.key
            )
            return {"from": done.from_version.number, "to": done.to_version.number, **self._changed(done.deployment)}

        facts = playing.once("", back)
        taken_back = {"taken_back": True} if leaving != playing.run.ref.number else {}
        text = f"Model rollback executed: {model} from {facts['from']} to {facts['to']}"
        return Done(text=text, facts={**facts, "serving": facts["to"], **taken_back})

    def _end_canary(self, playing: Playing) -> Done:
        ref = playing.run.ref

        def seen() -> Payload:
            return {"canary": canary_of(self._registry.lifecycle.deployment(ref.model))}

        canary = playing.once("canary", seen)["canary"]
        if canary != ref.number:
            raise Refused(f"{ref} is not the canary of {ref.model}.")

        def end() -> Payload:
            self._registry.lifecycle.transition(
                ref, Stage.SANDBOX, by=actor_of(playing.run.id), reason=_because(playing), step=playing.key
            )
            return self._changed(self._registry.lifecycle.deployment(ref.model))

        facts = playing.once("", end)
        text = f"the canary {ref} was moved to sandbox; production gets all the traffic"
        return Done(text=text, facts={**facts, "effect": EffectState.GONE.value, "watched": text})

    def _await_convergence(self, playing: Playing) -> Done:
        span = playing.step.timeout or playing.policy.converge_within
        deadline = self._deadline(playing, span)
        model = playing.run.ref.model

        def look() -> Payload:
            now, silence = self._clock(), self._registry.policies.of(model).rollback.silence
            seen = self._registry.performance
            availability = availability_of(model, seen.servers(), silence, now, seen.presence)
            found = convergence_of(self._registry.lifecycle.deployment(model), availability)
            late = to_micros(now) >= deadline
            over = late or found.state != "no"
            return {"over": over, "converged": found.state, "text": str(found)}

        seen = playing.until(look, within=span, longest=_LONGEST_WAIT)
        return Done(text=seen["text"], facts={"converged": seen["converged"]})

    def _replay_former(self, playing: Playing) -> Done:
        incident = playing.incident
        if incident is None:
            raise Refused("The run belongs to no incident, so there are no rows to answer.")
        span = playing.step.timeout or playing.policy.replay_within
        deadline = self._deadline(playing, span)

        def compare() -> Payload:
            left = from_micros(deadline) - self._clock()
            if left <= timedelta(0):
                return {"former": Former.UNKNOWN.value, "compared": f"no result within {render_duration(span)}"}
            found = self._former.compare(incident, now=self._clock(), within=left)
            return {"former": found.former.value, "compared": found.text}

        facts = playing.once("", compare)
        return Done(text=f"the former version: {facts['former']}; {facts['compared']}", facts=facts)

    def _train(self, playing: Playing) -> Done:
        ref = playing.run.ref
        incident = playing.incident
        cause, since = ("manual", None) if incident is None else (incident.cause.value, incident.since)
        asked = {
            "model": str(ref.model),
            "cause": cause,
            "run": playing.run.id,
            "incident": playing.run.incident,
            "since": None if since is None else since.isoformat(),
        }
        outcome = self._retrain(Prefixed(playing.durable, playing.name), asked)
        return Done(text=_told(outcome), facts=_facts_of(outcome))

    def _promote_candidate(self, playing: Playing) -> Done:
        ref, candidate = playing.run.ref, _candidate(playing)

        def seen() -> Payload:
            deployment = self._registry.lifecycle.deployment(ref.model)
            return {"production": deployment.production, "generation": deployment.generation}

        before = playing.once("serving", seen)
        if before["production"] != ref.number:
            raise Refused(
                f"The candidate was not promoted: {ref}, with which the candidate was compared, is no "
                "longer in production."
            )

        def put() -> Payload:
            deployment = self._registry.lifecycle.promote(
                candidate,
                by=actor_of(playing.run.id),
                reason=f"passed its gates in {playing.run.id}",
                expected_generation=before["generation"],
                step=playing.key,
            )
            return self._changed(deployment)

        facts = playing.once("", put)
        return Done(text=f"{candidate} promoted", facts={**facts, "serving": candidate.number})

    def _reject_candidate(self, playing: Playing) -> Done:
        candidate = _candidate(playing)
        why = f"the gates' verdict is {playing.facts.get('verdict')} ({playing.run.id})"

        def drop() -> Payload:
            by = actor_of(playing.run.id)
            self._registry.lifecycle.transition(candidate, Stage.DEPRECATED, by=by, reason=why, step=playing.key)
            return {}

        playing.once("", drop)
        return Done(text=f"{candidate} rejected: {why}")

    def _watch(self, playing: Playing) -> Done:
        incident = playing.incident
        if incident is None:
            return Done(text="the run belongs to no incident, so no signal was checked")
        span = playing.step.timeout or playing.policy.effect_within
        deadline = self._deadline(playing, span)
        since = from_micros(playing.facts.get("changed_at", to_micros(incident.opened_at)))

        def look() -> Payload:
            now = self._clock()
            effect = self._watcher.effect(incident, since=since, now=now)
            over = effect.state is EffectState.GONE or to_micros(now) >= deadline
            return {"over": over, "effect": effect.state.value, "text": effect.text}

        seen = playing.until(look, within=span, longest=_LONGEST_WATCH)
        return Done(text=seen["text"], facts={"effect": seen["effect"]})

    def _resolve_incident(self, playing: Playing) -> Done:
        watched, name = playing.facts.get("watched", "no step watched the signals"), playing.run.playbook
        helped = playing.facts.get("effect") == EffectState.GONE.value
        waits = f"the effect of the playbook {name} was not measured, so the incident stays open: {watched}"
        changed_at = playing.facts.get("changed_at")

        def answer(tx: Transaction, incident: Incident, now: datetime) -> None:
            actor = actor_of(playing.run.id)
            if not incident.status.unresolved:
                return
            if helped:
                self._journal.resolve(tx, incident, f"the playbook {name} helped: {watched}", now, actor)
                return
            since = now if changed_at is None else from_micros(changed_at)
            tx.store(HealingStore).put_incident(unmeasured(incident, waits, now, since=since, actor=actor))

        self._write_incident(playing, answer)
        return Done(text="incident resolved" if helped else waits)

    def _escalate(self, playing: Playing) -> Done:
        why = f"the playbook {playing.run.playbook} did not help: {playing.facts.get('watched', 'the signal persists')}"

        def ask(tx: Transaction, incident: Incident, now: datetime) -> None:
            self._journal.escalate(tx, incident, why, now, actor_of(playing.run.id))

        self._write_incident(playing, ask)
        return Done(text=why)

    def _notify(self, playing: Playing) -> Done:
        def tell(tx: Transaction, incident: Incident, now: datetime) -> None:
            told = {"incident": incident.id, "severity": incident.severity, "description": incident.description}
            self._journal.say(tx, "incident.notified", incident.ref, told, now=now, by=ACTOR)
            entry = TimelineEntry(at=now, kind="notified", text="Notification event written.")
            self._journal.note(tx, incident.id, entry)

        self._write_incident(playing, tell)
        return Done(text="Notification event written.")

    def _write_incident(self, playing: Playing, work: Callable[[Transaction, Incident, datetime], None]) -> None:
        incident_id = playing.run.incident
        if incident_id is None:
            return
        now = self._clock()

        def write(tx: Transaction) -> Payload:
            work(tx, tx.store(HealingStore).incident(incident_id), now)
            return {}

        playing.once("", lambda: self._unit.write_once(playing.key, write))

    def _deadline(self, playing: Playing, span: timedelta) -> int:
        found: int = playing.once("until", lambda: {"at": to_micros(self._clock() + span)})["at"]
        return found

    def _changed(self, deployment: Any) -> Payload:
        return {"generation": deployment.generation, "changed_at": to_micros(self._clock())}


def _serving(playing: Playing) -> int:
    """
    Give the version number that the run expects in production: the incident's version, or the one that the run
    promoted.
    """
    found: int = playing.facts.get("serving", playing.run.ref.number)
    return found


def _because(playing: Playing) -> str:
    if playing.incident is None:
        return f"{playing.run.reason} ({playing.run.id})"
    return f"{playing.incident.id}: {'; '.join(playing.incident.context.reasons)}"


def _candidate(playing: Playing) -> VersionRef:
    text = playing.facts.get("candidate")
    if not isinstance(text, str):
        raise Refused("The retraining of this run produced no candidate.")
    return VersionRef.parse(text)


def _told(outcome: Payload) -> str:
    return str(outcome.get("text") or f"candidate {outcome.get('candidate')}: {outcome.get('verdict')}")


def _facts_of(outcome: Payload) -> dict[str, Any]:
    return {name: outcome[name] for name in ("candidate", "verdict", "report") if outcome.get(name) is not None}
