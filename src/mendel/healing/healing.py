"""The facade of healing: automatic decisions, and commands of users."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from functools import partial

from mendel.durable import Transaction, Workflows, WorkflowState
from mendel.errors import Conflict, HealingPaused, InvalidValue
from mendel.healing.entities import (
    Incident,
    IncidentStatus,
    Pause,
    TimelineEntry,
)
from mendel.healing.healing_facts import ACTOR
from mendel.healing.incident_decisions import IncidentDecisions
from mendel.healing.incident_journal import pause_of
from mendel.healing.playbook_runs import (
    PlaybookRun,
    RunState,
)
from mendel.healing.policy import REPLAY
from mendel.healing.ports import HealingStore
from mendel.retraining import Waiting, may_start
from mendel.values import ModelName


class Healing(IncidentDecisions):
    """
    Opens incidents, decides about them, starts playbooks, and executes commands of users.

    Every change is one transaction together with its events and the start of its workflow; a decision equal to the last
    one is not stored. Safe to share between threads, and between processes over one database.
    """

    def start(self, model: ModelName, playbook: str, *, by: str, reason: str, now: datetime) -> PlaybookRun:
        """
        Start *playbook* on the production version at the request of a person or a schedule.

        Raises:
            HealingPaused: Healing is paused for the model.
            AlreadyExists: Another run of the model is active.
            InvalidValue: No playbook has that name, or no version is in production.
            Conflict: The playbook retrains, and there are too few labels; the message says how many.
        """
        about = self._facts_of(model, now)
        if playbook not in self.playbooks:
            raise InvalidValue(
                f"The playbook {playbook!r} does not exist.", remedy=f"Choose one of {', '.join(self.playbooks)}."
            )
        if about.production is None:
            raise InvalidValue(
                f"The model {model} has no version in production.", remedy="Promote a version with: mendel promote"
            )
        ref = about.production
        if self.playbooks[playbook].autonomy == "retrain":
            supply = self._training.supply(model, about.document, now)
            if isinstance(missing := may_start(supply), Waiting):
                remedy = "Import labels for predictions made since the last training, then start the playbook again."
                raise Conflict(f"The retraining of {model} cannot start: {missing.why}.", remedy=remedy)

        def make(tx: Transaction) -> PlaybookRun:
            _require_unpaused(tx, model)
            number = tx.store(HealingStore).next_number(f"RUN-{now.year}")
            run = self._run(about, ref, playbook, run_id=f"RUN-{now.year}-{number}", incident=None, reason=reason)
            return self._journal.launch(tx, replace(run, approved_by=by), now)

        return self._unit.write(make)

    def approve(self, run_id: str, *, by: str, now: datetime) -> PlaybookRun:
        """
        Start a proposed run, or continue a held run.

        Raises:
            RunNotFound: No run has this id.
            Conflict: The run waits for no approval, or another run of the model is active.
            HealingPaused: Healing is paused for the model.
        """

        def go_on(tx: Transaction) -> PlaybookRun:
            store = tx.store(HealingStore)
            run = store.run(run_id)
            _require_unpaused(tx, run.ref.model)
            if run.state is RunState.PROPOSED:
                after = self._journal.launch(tx, replace(run, approved_by=by), now)
            elif run.state is RunState.HELD:
                step = run.held_at if run.held_for == "approval" else run.approved_step
                after = self._journal.go_on(tx, replace(run, approved_by=by, approved_step=step), now)
            else:
                raise Conflict(f"The run {run_id} does not wait for approval: its state is {run.state}.")
            self._journal.say(tx, "playbook.approved", run.ref, {"run": run_id, "part": after.part}, now=now, by=by)
            self._journal.note(
                tx, run.incident, TimelineEntry(at=now, kind="approved", text=f"{run_id} approved", actor=by)
            )
            return after

        return self._unit.write(go_on)

    def decline(self, run_id: str, *, by: str, reason: str, now: datetime) -> PlaybookRun:
        """
        Decline a proposed or held run: the run ends and is not proposed again for the same incident.

        Raises:
            RunNotFound: No run has this id.
            Conflict: The run does not wait for approval.
        """

        def end(tx: Transaction) -> PlaybookRun:
            run = tx.store(HealingStore).run(run_id)
            if not run.state.waiting:
                raise Conflict(f"The run {run_id} does not wait for approval: its state is {run.state}.")
            return self._journal.stop(tx, run, RunState.DECLINED, f"declined: {reason}", now=now, by=by)

        return self._unit.write(end)

    def cancel(self, run_id: str, *, by: str, reason: str, now: datetime) -> PlaybookRun:
        """
        Cancel a running or waiting run: it stops before its next change, and earlier changes stay.

        The playbook is not tried again on the same incident.

        Raises:
            RunNotFound: No run has this id.
            Conflict: The run is over.
        """

        def end(tx: Transaction) -> PlaybookRun:
            run = tx.store(HealingStore).run(run_id)
            if run.state.over:
                raise Conflict(f"The run {run_id} has already ended: its state is {run.state}.")
            return self._journal.stop(tx, run, RunState.DECLINED, f"cancelled: {reason}", now=now, by=by)

        return self._unit.write(end)

    def settle(self, workflows: Workflows, now: datetime) -> tuple[PlaybookRun, ...]:
        """
        Mark runs as failed whose workflow ended without ending the run, because such a run blocks its model.

        Returns:
            The runs that this call marked as failed.
        """

        def lost(run: PlaybookRun) -> str | None:
            carrier = workflows.get(run.workflow_id)
            ended = carrier is not None and carrier.state in {WorkflowState.FAILED, WorkflowState.CANCELLED}
            return f"the run's workflow {carrier.state}: {carrier.error}" if carrier is not None and ended else None

        def fail(tx: Transaction, run_id: str, why: str) -> PlaybookRun:
            run = tx.store(HealingStore).run(run_id)
            if run.state is not RunState.RUNNING:
                return run
            after = self._journal.stop(tx, run, RunState.FAILED, why, now=now, by=ACTOR)
            if run.incident is not None and run.playbook != REPLAY:
                incident = tx.store(HealingStore).incident(run.incident)
                self._journal.escalate(tx, incident, f"the playbook {run.playbook} did not help: {why}", now, ACTOR)
            return after

        running = self._unit.read(lambda tx: tx.store(HealingStore).runs(since=now))
        found = [(run, lost(run)) for run in running if run.state is RunState.RUNNING]
        return tuple(self._unit.write(partial(fail, run_id=run.id, why=why)) for run, why in found if why is not None)

    def pause(self, *, by: str, reason: str, now: datetime, model: ModelName | None = None) -> Pause:
        """Pause healing for *model* or for all: no run starts, and each active run is held before its next change."""
        pause = Pause(model=model, by=by, at=now, reason=reason)

        def switch_off(tx: Transaction) -> Pause:
            tx.store(HealingStore).put_pause(pause)
            self._journal.say(tx, "healing.paused", model or "healing", {"reason": reason}, now=now, by=by)
            return pause

        return self._unit.write(switch_off)

    def resume(self, *, by: str, now: datetime, model: ModelName | None = None) -> tuple[PlaybookRun, ...]:
        """
        Resume healing for *model* or for all.

        Returns:
            The held runs that continue.
        """

        def switch_on(tx: Transaction) -> tuple[PlaybookRun, ...]:
            store = tx.store(HealingStore)
            if not store.lift_pause(model):
                return ()
            self._journal.say(tx, "healing.resumed", model or "healing", {}, now=now, by=by)
            held = [run for run in store.runs(model, since=now) if run.state is RunState.HELD]
            return tuple(
                self._journal.go_on(tx, run, now)
                for run in held
                if run.held_for == "resume" and pause_of(store, run.ref.model) is None
            )

        return self._unit.write(switch_on)

    def acknowledge(self, incident_id: str, *, by: str, now: datetime) -> Incident:
        """
        Record that a person investigates the incident.

        Raises:
            IncidentNotFound: No incident has this id.
            Conflict: The incident is resolved or closed.
        """

        def look(tx: Transaction) -> Incident:
            incident = _require_unresolved(tx.store(HealingStore).incident(incident_id))
            entry = TimelineEntry(at=now, kind="acknowledged", text="Investigation started.", actor=by)
            mitigating = incident.status is IncidentStatus.MITIGATING
            status = incident.status if mitigating else IncidentStatus.INVESTIGATING
            after = replace(incident, status=status).noting(entry)
            tx.store(HealingStore).put_incident(after)
            self._journal.say(tx, "incident.acknowledged", incident.ref, {"incident": incident_id}, now=now, by=by)
            return after

        return self._unit.write(look)

    def resolve(self, incident_id: str, *, by: str, how: str, now: datetime) -> Incident:
        """
        Resolve the incident; *how* says what resolved it.

        Raises:
            IncidentNotFound: No incident has this id.
            Conflict: The incident is already resolved or closed.
        """

        def answer(tx: Transaction) -> Incident:
            incident = _require_unresolved(tx.store(HealingStore).incident(incident_id))
            return self._journal.resolve(tx, incident, how, now, by)

        return self._unit.write(answer)

    def close(self, incident_id: str, *, by: str, now: datetime) -> Incident:
        """
        Close a resolved incident.

        Raises:
            IncidentNotFound: No incident has this id.
            Conflict: The incident is not resolved.
        """

        def put_away(tx: Transaction) -> Incident:
            incident = tx.store(HealingStore).incident(incident_id)
            if incident.status is not IncidentStatus.RESOLVED:
                raise Conflict(
                    f"The incident {incident_id} cannot be closed: its status is {incident.status}.",
                    remedy="Resolve the incident first with: mendel incidents resolve",
                )
            entry = TimelineEntry(at=now, kind="closed", text="closed", actor=by)
            after = replace(incident, status=IncidentStatus.CLOSED).noting(entry)
            tx.store(HealingStore).put_incident(after)
            self._journal.say(tx, "incident.closed", incident.ref, {"incident": incident_id}, now=now, by=by)
            return after

        return self._unit.write(put_away)


def _require_unresolved(incident: Incident) -> Incident:
    if not incident.status.unresolved:
        raise Conflict(f"The incident {incident.id} is already {incident.status}.")
    return incident


def _require_unpaused(tx: Transaction, model: ModelName) -> None:
    pause = pause_of(tx.store(HealingStore), model)
    if pause is not None:
        why = f"Healing is paused by {pause.by} since {pause.at.isoformat()}: {pause.reason}."
        raise HealingPaused(why, remedy="Resume healing with: mendel healing resume")
