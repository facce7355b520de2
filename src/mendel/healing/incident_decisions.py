"""Turn signals into incidents, decisions and runs, each in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from mendel.durable import NewId, Transaction, UnitOfWork
from mendel.errors import AlreadyExists
from mendel.healing.causes import Diagnosis, began, diagnose
from mendel.healing.decision import Act, Decision, Observe, Propose, decide
from mendel.healing.decision_facts import Facts
from mendel.healing.decision_records import recorded
from mendel.healing.entities import (
    Cause,
    Incident,
    LookResult,
    Signal,
    SignalKind,
    TimelineEntry,
)
from mendel.healing.healing_facts import ACTOR, HealingFacts, actor_of, read_healing_facts
from mendel.healing.incident_journal import Journal, pause_of
from mendel.healing.incidents import cleared, ended, joined, opened, since_after, still_serves
from mendel.healing.look_book import LookBook
from mendel.healing.playbook_runs import (
    PlaybookRun,
    RunState,
)
from mendel.healing.playbooks import Playbook
from mendel.healing.ports import HealingStore, Training
from mendel.healing.remedies import remedy_for
from mendel.registry import Registry
from mendel.retraining import LabelSupply
from mendel.values import ModelName, VersionRef, to_builtins

T = TypeVar("T")
_WORLD = frozenset({SignalKind.DRIFT, SignalKind.DRIFT_SCORE, SignalKind.OOD, SignalKind.QUALITY})
_DRIFT = frozenset({SignalKind.DRIFT, SignalKind.DRIFT_SCORE})
_RIVALS = 3
_RECOUNT = timedelta(seconds=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """The label supply at the last count."""

    at: datetime
    since: datetime | None
    supply: LabelSupply


class IncidentDecisions:
    """
    The part of healing that acts without a person.

    Args:
        registry: The registry.
        playbooks: Every playbook by name; see :func:`mendel.healing.load_playbooks`.
        training: Counts the labels for a retraining.
    """

    def __init__(
        self,
        unit: UnitOfWork,
        registry: Registry,
        *,
        playbooks: Mapping[str, Playbook],
        training: Training,
        new_id: NewId,
    ) -> None:
        self._unit = unit
        self._registry = registry
        self.playbooks = playbooks
        self._training = training
        self._journal = Journal(new_id)
        self.looks = LookBook(unit, registry, new_id)
        self._supplies: dict[ModelName, _Counted] = {}

    def respond_to(self, look: LookResult, now: datetime) -> tuple[Incident, ...]:
        """
        Act on the result of a check: open, extend or resolve incidents, and decide again about open incidents.

        Returns:
            Every incident of the model that is open now.
        """
        self.notice(look.signals, now)
        self.clear(look, now)
        return self.review(look.model, now)

    def notice(self, signals: Sequence[Signal], now: datetime) -> tuple[Incident, ...]:
        """
        Open an incident for each diagnosis of *signals*, or add the signals to an open incident; then decide about it.

        Returns:
            The incidents that the signals belong to.
        """
        by_version: dict[VersionRef, list[Signal]] = {}
        for signal in signals:
            by_version.setdefault(signal.ref, []).append(signal)
        found: list[Incident] = []
        for ref, raised in by_version.items():
            about = self._facts_of(ref.model, now)
            if any(signal.kind in _WORLD for signal in raised):
                about = self._supplied(about, ref, began(raised), [signal.kind for signal in raised])
            found += self._write_against_rivals(partial(self._notice, about=about, raised=raised))
        return tuple(found)

    def clear(self, look: LookResult, now: datetime) -> tuple[Incident, ...]:
        """
        Note which signals *look* shows to be gone, and resolve the incidents that are over, except those with an active
        run.

        See :func:`mendel.healing.incidents.ended`; if the version no longer serves, a run that waits for a person to
        change that version is cancelled.
        """
        waiting = self._unit.read(lambda tx: tx.store(HealingStore).open_incidents(look.model))
        if not any(cleared(one, look) is not one or ended(one, look) for one in waiting):
            return ()

        def settle(tx: Transaction) -> tuple[Incident, ...]:
            done = []
            store = tx.store(HealingStore)
            for before in store.open_incidents(look.model):
                incident = cleared(before, look)
                if incident is not before:
                    store.put_incident(incident)
                how = ended(incident, look)
                runs = [run for run in store.runs(look.model, incident=incident.id) if not run.state.over]
                if how is not None and not still_serves(incident, look) and all(run.state.waiting for run in runs):
                    for run in runs:
                        self._journal.stop(tx, run, RunState.CANCELLED, how, now=now, by=ACTOR)
                    runs = []
                if how is not None and not runs:
                    done.append(self._journal.resolve(tx, store.incident(incident.id), how, now, ACTOR))
            return tuple(done)

        return self._unit.write(settle)

    def review(self, model: ModelName, now: datetime) -> tuple[Incident, ...]:
        """Decide again about every open incident of *model*: a wait may have ended."""
        waiting = self._unit.read(lambda tx: tx.store(HealingStore).open_incidents(model))
        if not waiting:
            return ()
        about = self._facts_of(model, now)
        if (moved := next((one for one in waiting if one.cause.may_retrain), None)) is not None:
            about = self._supplied(about, moved.ref, moved.since, moved.kinds)

        def again(tx: Transaction) -> tuple[Incident, ...]:
            return tuple(self._decide(tx, one, about) for one in tx.store(HealingStore).open_incidents(model))

        return self._unit.write(again)

    def _notice(self, tx: Transaction, *, about: HealingFacts, raised: Sequence[Signal]) -> list[Incident]:
        ref, now = raised[0].ref, about.at
        store = tx.store(HealingStore)
        waiting = [one for one in store.open_incidents(ref.model) if one.ref == ref]
        drifting = any(one.cause in {Cause.DRIFT, Cause.OOD} for one in waiting)
        found = []
        for diagnosis in diagnose(raised, about.circumstances(ref, drifting=drifting)):
            incident = _open_about(diagnosis, waiting if diagnosis.server is None else store.open_incidents())
            if incident is not None and incident.ref != ref:
                store.put_incident(joined(incident, diagnosis, now))
                found.append(store.incident(incident.id))
                continue
            if incident is None:
                after = self._open(tx, diagnosis, about, now)
            else:
                tenure = about.tenure(ref)
                after = joined(incident, diagnosis, now, promoted=None if tenure is None else tenure.start)
                store.put_incident(after)
            known = () if incident is None else incident.kinds
            self._tell_drift(tx, [one for one in diagnosis.signals if one.kind not in known], after, now)
            found.append(self._decide(tx, after, about))
        return found

    def _open(self, tx: Transaction, diagnosis: Diagnosis, about: HealingFacts, now: datetime) -> Incident:
        store = tx.store(HealingStore)
        series = f"INC-{now.year}"
        incident = opened(diagnosis, about, incident_id=f"{series}-{store.next_number(series)}", now=now)
        store.add_incident(incident)
        told = {
            "incident": incident.id,
            "cause": incident.cause,
            "severity": incident.severity,
            "title": incident.title,
            "reasons": diagnosis.reasons,
            "policy_hash": about.document.hash,
            "digests": _digests(incident),
        }
        self._journal.say(tx, "incident.opened", incident.ref, told, now=now, by=ACTOR)
        return incident

    def _tell_drift(self, tx: Transaction, fresh: Sequence[Signal], incident: Incident, now: datetime) -> None:
        for signal in fresh:
            if signal.kind in _DRIFT:
                told = {
                    "incident": incident.id,
                    "reasons": signal.reasons,
                    "policy_hash": signal.evidence.policy_hash,
                    "digests": signal.evidence.digests,
                    **signal.evidence.readings,
                }
                self._journal.say(tx, "model.drift_detected", incident.ref, told, now=now, by=ACTOR)

    def _decide(self, tx: Transaction, incident: Incident, about: HealingFacts) -> Incident:
        store, now = tx.store(HealingStore), about.at
        facts = self._facts(store, incident, about)
        if any(run.state is RunState.RUNNING and run.created_at >= incident.asked_at for run in facts.tried):
            return incident
        decision = decide(incident, about.policy, facts, now)
        record = recorded(
            decision,
            facts,
            record_id=self._journal.new_id(),
            incident=incident.id,
            at=now,
            run=_next_run_id(incident, facts) if isinstance(decision, Act | Propose) else None,
            evidence=_digests(incident),
        )
        self.looks.decided(tx, incident, facts, record)
        if not isinstance(decision, Act | Propose) and record.same_as(
            next(reversed(store.decisions(incident.id)), None)
        ):
            return incident
        store.add_decision(record)
        self._journal.say(tx, "decision.made", incident.ref, to_builtins(record), now=now, by=ACTOR)
        text = f"{record.verdict}{f' {record.playbook}' if record.playbook else ''}: {'; '.join(record.reasons)}"
        store.put_incident(incident.noting(TimelineEntry(at=now, kind="decided", text=text)))
        self._carry_out(tx, decision, record.run, incident, about)
        return store.incident(incident.id)

    def _carry_out(
        self, tx: Transaction, decision: Decision, run_id: str | None, incident: Incident, about: HealingFacts
    ) -> None:
        match decision:
            case Act(playbook=playbook, preempts=preempts) if run_id is not None:
                if preempts is not None:
                    former, why = tx.store(HealingStore).run(preempts), f"stopped so that the run {run_id} can start"
                    self._journal.stop(tx, former, RunState.CANCELLED, why, now=about.at, by=ACTOR)
                run = self._run(about, incident.ref, playbook, run_id=run_id, incident=incident.id, reason="decided")
                self._journal.launch(tx, run, about.at)
            case Propose(playbook=playbook) if run_id is not None:
                run = self._run(about, incident.ref, playbook, run_id=run_id, incident=incident.id, reason="proposed")
                tx.store(HealingStore).put_run(run)
            case Observe(escalate=True, reasons=reasons):
                now_is = tx.store(HealingStore).incident(incident.id)
                self._journal.escalate(tx, now_is, "; ".join(reasons), about.at, ACTOR)
            case _:
                pass

    def _facts(self, store: HealingStore, incident: Incident, about: HealingFacts) -> Facts:
        since = about.at - max(timedelta(days=1), about.policy.cooldown, about.policy.bake)
        runs = store.runs(incident.ref.model, since=since)
        facts = Facts(
            policy_hash=about.document.hash,
            pause=pause_of(store, incident.ref.model),
            runs=runs,
            tried=store.runs(incident.ref.model, incident=incident.id),
            return_to=about.return_to,
            served_for=about.served_for(incident.ref, incident.asked_at),
            placed_by_rollback=_placed_by_rollback(about, incident.ref, runs),
            last_change=about.last_change,
            supply=about.supply,
        )
        remedy = remedy_for(incident, about.policy, facts).playbook
        return facts if remedy is None else replace(facts, playbook=self.playbooks.get(remedy))

    def _run(
        self, about: HealingFacts, ref: VersionRef, playbook: str, *, run_id: str, incident: str | None, reason: str
    ) -> PlaybookRun:
        return PlaybookRun(
            id=run_id,
            incident=incident,
            ref=ref,
            playbook=playbook,
            document=self.playbooks[playbook],
            policy=about.section,
            policy_hash=about.document.hash,
            state=RunState.PROPOSED,
            created_at=about.at,
            reason=reason,
            facts={},
        )

    def _facts_of(self, model: ModelName, now: datetime) -> HealingFacts:
        return read_healing_facts(self._registry, model, now)

    def _supplied(
        self, about: HealingFacts, ref: VersionRef, since: datetime | None, kinds: Sequence[SignalKind]
    ) -> HealingFacts:
        """
        Add the label supply for a retraining that would replace *ref*, counted since the change began.

        The start of the change is computed as if signals of *kinds* with *since* had already joined the incident,
        because a retraining reads it from the incident. Labels are counted at most every few seconds, and not at all if
        *ref* is no longer in production, or the incident has an active run or is escalated.
        """
        if about.production != ref:
            return about
        incident, busy = self._unit.read(partial(_world_incident, ref=ref))
        if busy or (incident is not None and incident.escalated):
            return about
        since = since if incident is None else since_after(incident, kinds, since)
        known = self._supplies.get(about.model)
        if known is None or known.since != since or not known.at <= about.at < known.at + _RECOUNT:
            supply = self._training.supply(about.model, about.document, about.at, since=since)
            self._supplies[about.model] = known = _Counted(at=about.at, since=since, supply=supply)
        return replace(about, supply=known.supply)

    def _write_against_rivals(self, work: Callable[[Transaction], T]) -> T:
        """Run *work*; repeat it if another process has opened the same incident in the meantime."""
        for _ in range(_RIVALS):
            try:
                return self._unit.write(work)
            except AlreadyExists:
                continue
        return self._unit.write(work)


def _open_about(diagnosis: Diagnosis, unresolved: Sequence[Incident]) -> Incident | None:
    """Find the incident that *diagnosis* joins: of the same server and kind, or without a server of the same family."""

    def same(incident: Incident) -> bool:
        if incident.server != diagnosis.server:
            return False
        if diagnosis.server is None:
            return incident.cause.family == diagnosis.cause.family
        return set(diagnosis.kinds) <= set(incident.kinds)

    return next((incident for incident in unresolved if same(incident)), None)


def _world_incident(tx: Transaction, *, ref: VersionRef) -> tuple[Incident | None, bool]:
    """Find the open incident of *ref* that a retraining may solve, and whether it has an active run."""
    store = tx.store(HealingStore)
    for incident in store.open_incidents(ref.model):
        if incident.ref == ref and incident.cause.may_retrain:
            return incident, any(not run.state.over for run in store.runs(ref.model, incident=incident.id))
    return None, False


def _digests(incident: Incident) -> tuple[str, ...]:
    return tuple(dict.fromkeys(digest for evidence in incident.evidence for digest in evidence.digests))


def _next_run_id(incident: Incident, facts: Facts) -> str:
    return f"{incident.id}-{len(facts.tried) + 1}"


def _placed_by_rollback(about: HealingFacts, ref: VersionRef, runs: Sequence[PlaybookRun]) -> datetime | None:
    tenure = about.tenure(ref)
    mine = {actor_of(run.id) for run in runs if run.document.autonomy == "rollback" or _took_back(run, ref)}
    return tenure.start if tenure is not None and tenure.actor in mine else None


def _took_back(run: PlaybookRun, ref: VersionRef) -> bool:
    """Whether a retraining returned to *ref*, because its candidate could not be served."""
    return bool(run.facts.get("taken_back")) and run.facts.get("candidate") != str(ref)
