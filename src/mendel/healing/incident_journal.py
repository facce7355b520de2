"""Write incidents, runs and their events in a transaction, for the commands of people and for playbooks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from mendel.durable import Event, NewId, Transaction, WorkflowCall
from mendel.healing.entities import (
    Incident,
    IncidentStatus,
    Pause,
    TimelineEntry,
)
from mendel.healing.incidents import escalated, resolved
from mendel.healing.playbook_runs import (
    PlaybookRun,
    RunState,
)
from mendel.healing.ports import HealingStore
from mendel.values import ModelName, VersionRef, to_builtins

WORKFLOW = "playbook"
"""The name under which the workflow of playbooks is registered."""


@dataclass(frozen=True, slots=True)
class Journal:
    """Writes changes together with their events."""

    new_id: NewId

    def say(
        self, tx: Transaction, what: str, about: VersionRef | str, told: dict[str, Any], *, now: datetime, by: str
    ) -> None:
        """Append the event *what* to the ledger; its subject *about* is a version, a model, or the word ``healing``."""
        if isinstance(about, VersionRef):
            told = {"model_id": f"{about.model}/{about.number}", **told}
        event = Event(id=self.new_id(), type=what, subject=str(about), time=now, actor=by, data=to_builtins(told))
        tx.append(event)

    def change(self, tx: Transaction, incident_id: str | None, with_: Callable[[Incident], Incident]) -> None:
        """Replace the incident by ``with_(incident)``; do nothing if *incident_id* is None."""
        if incident_id is not None:
            store = tx.store(HealingStore)
            store.put_incident(with_(store.incident(incident_id)))

    def note(self, tx: Transaction, incident_id: str | None, entry: TimelineEntry) -> None:
        """Add *entry* to the incident's timeline."""
        self.change(tx, incident_id, lambda incident: incident.noting(entry))

    def resolve(self, tx: Transaction, incident: Incident, how: str, now: datetime, by: str) -> Incident:
        """Resolve *incident*; *how* says what resolved it."""
        after = resolved(incident, how, now, actor=by)
        tx.store(HealingStore).put_incident(after)
        told = {
            "incident": incident.id,
            "cause": incident.cause,
            "how": how,
            "open_seconds": (now - incident.opened_at).total_seconds(),
        }
        self.say(tx, "incident.resolved", incident.ref, told, now=now, by=by)
        return after

    def escalate(self, tx: Transaction, incident: Incident, why: str, now: datetime, by: str) -> Incident:
        """Escalate *incident* to a person, unless that was done before."""
        if incident.escalated or not incident.status.unresolved:
            return incident
        after = escalated(incident, why, now, actor=by)
        tx.store(HealingStore).put_incident(after)
        told = {"incident": incident.id, "cause": incident.cause, "severity": after.severity, "why": why}
        self.say(tx, "incident.escalated", incident.ref, told, now=now, by=by)
        return after

    def launch(self, tx: Transaction, run: PlaybookRun, now: datetime) -> PlaybookRun:
        """
        Request the start of the current part of *run* when *tx* commits.

        Raises:
            AlreadyExists: Another run of the model is active.
        """
        after = replace(run, state=RunState.RUNNING, started_at=run.started_at or now, held_for=None)
        tx.store(HealingStore).put_run(after)
        call = WorkflowCall(name=WORKFLOW, id=after.workflow_id, input={"run": run.id, "part": after.part})
        tx.start(call)
        if not run.document.harmless:
            self.change(tx, run.incident, lambda one: replace(one, status=IncidentStatus.MITIGATING))
        return after

    def go_on(self, tx: Transaction, run: PlaybookRun, now: datetime) -> PlaybookRun:
        """
        Start the next part of a held run when *tx* commits.

        Raises:
            AlreadyExists: Another run of the model is active.
        """
        return self.launch(tx, replace(run, part=run.part + 1), now)

    def stop(
        self, tx: Transaction, run: PlaybookRun, state: RunState, why: str, *, now: datetime, by: str
    ) -> PlaybookRun:
        """End *run* in the store; its workflow checks the run's state before each step and then stops."""
        after = replace(run, state=state, finished_at=now)
        tx.store(HealingStore).put_run(after)
        told = {"run": run.id, "playbook": run.playbook, "state": state, "why": why}
        self.say(tx, "playbook.finished", run.ref, told, now=now, by=by)
        self.note(tx, run.incident, TimelineEntry(at=now, kind=state.value, text=f"{run.id}: {why}", actor=by))
        self.reopen(tx, run.incident)
        return after

    def reopen(self, tx: Transaction, incident_id: str | None) -> None:
        """Set the incident from ``mitigating`` back to ``open``, because no run works on it."""

        def opened(incident: Incident) -> Incident:
            mitigating = incident.status is IncidentStatus.MITIGATING
            return replace(incident, status=IncidentStatus.OPEN) if mitigating else incident

        self.change(tx, incident_id, opened)


def pause_of(store: HealingStore, model: ModelName) -> Pause | None:
    """
    Find the pause that applies to *model*; a pause for all models takes precedence. None if healing is not paused.
    """
    return next((pause for pause in store.pauses() if pause.model in {None, model}), None)
