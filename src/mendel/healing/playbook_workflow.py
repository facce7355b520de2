"""The durable workflow that runs every playbook; after a kill and a resume it ends like an uninterrupted run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mendel.durable import Clock, NewId, Payload, StepKey, Transaction, UnitOfWork, WorkflowContext, WorkflowFunction
from mendel.errors import Fenced
from mendel.healing.actions import Actions
from mendel.healing.durable_steps import Done, Playing, Refused
from mendel.healing.entities import (
    Incident,
    TimelineEntry,
)
from mendel.healing.healing_facts import actor_of
from mendel.healing.incident_journal import Journal, pause_of
from mendel.healing.incidents import final_state
from mendel.healing.playbook_runs import (
    PlaybookRun,
    RunState,
    StepOutcome,
    StepState,
)
from mendel.healing.playbooks import Action
from mendel.healing.policy import REPLAY, HealingPolicy, Level
from mendel.healing.ports import EffectMonitor, FormerVersion, HealingStore
from mendel.registry import Registry
from mendel.values import from_builtins, from_micros, to_builtins, to_micros


@dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    """The input of one part of a run, fixed by its first step."""

    run: PlaybookRun
    incident: Incident | None


class PlaybookWorkflow:
    """
    Runs a playbook; registered as the workflow ``playbook`` (:data:`mendel.healing.WORKFLOW`).

    Every action is one or more durable steps. Changes of the registry carry the step's key, and changes of healing's
    own rows are written once by key; so a step that is repeated after a kill finds its change made. The playbook is
    the one that was stored with the run.
    """

    def __init__(
        self,
        unit: UnitOfWork,
        registry: Registry,
        *,
        watcher: EffectMonitor,
        former: FormerVersion,
        retrain: WorkflowFunction,
        clock: Clock,
        new_id: NewId,
    ) -> None:
        self._unit = unit
        self._clock = clock
        self._journal = Journal(new_id)
        self._actions = Actions(
            unit, registry, watcher=watcher, former=former, retrain=retrain, journal=self._journal, clock=clock
        )

    def __call__(self, durable: WorkflowContext, payload: Payload) -> Payload:
        """Execute one part of the run ``payload["run"]``, from its start or from the step at which the run was held."""
        begun = from_builtins(
            durable.step("begin", lambda: self._begin(str(payload["run"]), int(payload["part"]))), _Begun
        )
        run, part = begun.run, int(payload["part"])
        playbook = run.document
        policy = HealingPolicy.of(run.policy)
        facts = _first_facts(begun, policy)
        for index, step in enumerate(playbook.steps):
            if index < run.held_at:
                continue
            name = f"{index + 1}-{step.name}"
            playing = Playing(
                durable=durable,
                run=run,
                incident=begun.incident,
                policy=policy,
                step=step,
                name=name,
                facts=facts,
            )
            outcome = self._play(playing, approved=run.approved_step == index)
            facts = {**facts, **outcome.facts}
            kept = durable.step(f"{name} kept", lambda i=index, o=outcome: self._keep(run.id, part, i, o))  # type: ignore[misc]
            if kept["stop"]:
                return {"run": run.id, "state": kept["state"]}
        return durable.step("end", lambda: self._end(run.id, part))

    def _begin(self, run_id: str, part: int) -> Payload:
        now = self._clock()

        def begin(tx: Transaction) -> Payload:
            store = tx.store(HealingStore)
            run = store.run(run_id)
            if part == 1:
                told = {"run": run_id, "playbook": run.playbook, "incident": run.incident, "reason": run.reason}
                self._journal.say(tx, "playbook.started", run.ref, told, now=now, by=actor_of(run_id))
                entry = TimelineEntry(at=now, kind="started", text=f"{run.playbook} started as {run_id}")
                self._journal.note(tx, run.incident, entry)
            incident = None if run.incident is None else store.incident(run.incident)
            begun: Payload = to_builtins(_Begun(run=run, incident=incident))
            return begun

        return self._unit.write_once(StepKey(workflow_id=run_id, step=f"begin {part}"), begin)

    def _play(self, playing: Playing, *, approved: bool) -> StepOutcome:
        """Execute one step; skip it if its condition is false or the run has ended, and hold it if it must wait."""
        if not playing.step.applies(playing.facts):
            return self._outcome(playing, StepState.SKIPPED, Done(text="the step's condition is not met"))
        stands = playing.durable.step(f"{playing.name} stands", lambda: self._stands(playing.run))
        if stands["over"]:
            return self._outcome(playing, StepState.SKIPPED, Done(text="the run has already ended"))
        held_for = _held_for(playing, approved=approved, paused=stands["paused"])
        if held_for is not None:
            return self._outcome(playing, StepState.HELD, Done(text=f"waits for {held_for}"), held_for=held_for)
        return self._supervised(playing)

    def _supervised(self, playing: Playing) -> StepOutcome:
        """Execute an action; an exception ends the step as failed and is stored."""
        try:
            return self._outcome(playing, StepState.DONE, self._actions.perform(playing))
        except Refused as error:
            if error.held:
                return self._outcome(playing, StepState.HELD, Done(text=error.why), held_for="approval")
            return self._outcome(playing, StepState.FAILED, Done(text=error.why))
        except Fenced:
            raise
        except Exception as error:  # noqa: BLE001 - the named supervisor of actions; BaseException is a kill
            return self._outcome(playing, StepState.FAILED, Done(text=f"{type(error).__name__}: {error}"))

    def _stands(self, run: PlaybookRun) -> Payload:
        """Read whether the run has ended in the meantime, and whether healing is paused."""

        def read(tx: Transaction) -> Payload:
            store = tx.store(HealingStore)
            over = store.run(run.id).state is not RunState.RUNNING
            return {"over": over, "paused": pause_of(store, run.ref.model) is not None}

        return self._unit.read(read)

    def _outcome(self, playing: Playing, state: StepState, done: Done, *, held_for: str | None = None) -> StepOutcome:
        watched = {"watched": done.text} if playing.step.action is Action.WATCH else {}
        at = playing.durable.step(f"{playing.name} at", lambda: {"micros": to_micros(self._clock())})["micros"]
        return StepOutcome(
            name=playing.name,
            action=playing.step.action.value,
            state=state,
            text=done.text,
            facts={**done.facts, **watched},
            at=from_micros(at),
            held_for=held_for,
        )

    def _keep(self, run_id: str, part: int, index: int, outcome: StepOutcome) -> Payload:
        def keep(tx: Transaction) -> Payload:
            run = tx.store(HealingStore).run(run_id)
            if run.state is not RunState.RUNNING or run.part != part:
                return {"stop": True, "state": run.state.value}
            after = replace(run, steps=(*run.steps, outcome), facts={**run.facts, **outcome.facts})
            match outcome.state:
                case StepState.HELD:
                    after = self._hold(tx, after, index, outcome)
                case StepState.FAILED:
                    after = self._finish(tx, after, outcome)
                case _:
                    tx.store(HealingStore).put_run(after)
            self._tell_step(tx, run, outcome)
            return {"stop": after.state is not RunState.RUNNING, "state": after.state.value}

        return self._unit.write_once(StepKey(workflow_id=run_id, step=f"{outcome.name} kept {part}"), keep)

    def _tell_step(self, tx: Transaction, run: PlaybookRun, outcome: StepOutcome) -> None:
        told: dict[str, Any] = {"run": run.id, "step": outcome.name, "state": outcome.state, "text": outcome.text}
        self._journal.say(tx, "playbook.step", run.ref, told, now=outcome.at, by=actor_of(run.id))
        if outcome.state is not StepState.SKIPPED:
            entry = TimelineEntry(
                at=outcome.at, kind="step", text=f"{outcome.action}: {outcome.text}", actor=actor_of(run.id)
            )
            self._journal.note(tx, run.incident, entry)

    def _hold(self, tx: Transaction, run: PlaybookRun, index: int, outcome: StepOutcome) -> PlaybookRun:
        after = replace(run, state=RunState.HELD, held_at=index, held_for=outcome.held_for)
        tx.store(HealingStore).put_run(after)
        told = {"run": run.id, "step": outcome.name, "for": after.held_for, "text": outcome.text}
        self._journal.say(tx, "playbook.held", run.ref, told, now=outcome.at, by=actor_of(run.id))
        return after

    def _end(self, run_id: str, part: int) -> Payload:
        now = self._clock()

        def end(tx: Transaction) -> Payload:
            run = tx.store(HealingStore).run(run_id)
            if run.state is not RunState.RUNNING or run.part != part:
                return {"run": run_id, "state": run.state.value}
            last = StepOutcome(name="end", action="end", state=StepState.DONE, text="", facts={}, at=now)
            return {"run": run_id, "state": self._finish(tx, run, last).state.value}

        return self._unit.write_once(StepKey(workflow_id=run_id, step="end"), end)

    def _finish(self, tx: Transaction, run: PlaybookRun, last: StepOutcome) -> PlaybookRun:
        """
        End the run; escalate its incident if the run did not solve it, because the playbook is not tried again.

        A failed replay of the former version escalates nothing: its result is unknown.
        """
        state = final_state(run.facts, tuple(step.state for step in run.steps))
        after = replace(run, state=state, finished_at=last.at)
        store = tx.store(HealingStore)
        store.put_run(after)
        told = {"run": run.id, "playbook": run.playbook, "state": state, "why": last.text, "facts": run.facts}
        self._journal.say(tx, "playbook.finished", run.ref, told, now=last.at, by=actor_of(run.id))
        entry = TimelineEntry(at=last.at, kind="finished", text=f"{run.id} ended: {state}", actor=actor_of(run.id))
        self._journal.note(tx, run.incident, entry)
        if state is not RunState.SUCCEEDED:
            self._journal.reopen(tx, run.incident)
        if run.incident is not None and state.unhelpful and run.playbook != REPLAY:
            why = f"the playbook {run.playbook} did not help: {last.text or run.facts.get('watched') or state}"
            self._journal.escalate(tx, store.incident(run.incident), why, last.at, actor_of(run.id))
        return after


def _first_facts(begun: _Begun, policy: HealingPolicy) -> dict[str, Any]:
    known: dict[str, Any] = {"profile": policy.profile}
    if begun.incident is not None:
        known |= {"cause": begun.incident.cause.value, "severity": begun.incident.severity.value}
    return {**known, **begun.run.facts}


def _held_for(playing: Playing, *, approved: bool, paused: bool) -> str | None:
    """
    Give why the step must wait: ``approval`` by playbook or policy, ``resume`` while healing is paused; None to go on.
    """
    step, promotes = playing.step, playing.step.action is Action.PROMOTE_CANDIDATE
    asks = step.requires is not None or (promotes and playing.policy.autonomy.of("promote") is not Level.ACT)
    if asks and not approved:
        return "approval"
    return "resume" if paused and step.action.live else None
