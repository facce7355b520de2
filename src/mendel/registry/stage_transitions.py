"""Apply plans: stages, deployment, production periods and events change in one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from mendel.durable import Event, Transaction, WorkflowCall
from mendel.registry.history import GateRecord, ProductionPeriod
from mendel.registry.lookups import current_policy, require_version
from mendel.registry.planned_changes import PlannedChanges
from mendel.registry.ports import RegistryStore
from mendel.registry.stage_plans import ModelState, Plan, StageChange
from mendel.registry.transactions import RegistryTransactions
from mendel.registry.version_records import VersionRecord
from mendel.values import Deployment, ModelName, Stage, VersionRef

MIRROR_ALIAS = "mirror_alias"
"""The workflow that copies stages to the artefact store's alias and tags; its input is ``{"model": name}``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """The actor, time and reason of a change; ``evidence`` are the facts that an automatic actor decided on."""

    by: str
    at: datetime
    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


class StageTransitions:
    """Writes the changes of a plan in the caller's transaction."""

    def __init__(self, transactions: RegistryTransactions) -> None:
        self._transactions = transactions

    def cause(self, kind: str, record: VersionRecord, act: Act, state: ModelState, plan: Plan, **data: Any) -> Event:
        """Make the event that causes *plan*, about the version of *record*."""
        if act.evidence:
            data["evidence"] = act.evidence
        return self._transactions.version_event(
            kind,
            record,
            act.by,
            moment_of(act, state),
            reason=act.reason,
            generation=after(state, plan).generation,
            governance=plan.governance,
            policy_hash=state.policy.hash,
            **data,
        )

    def apply(self, tx: Transaction, state: ModelState, plan: Plan, act: Act, cause: Event | None) -> Deployment:
        """
        Write the changes of *plan*.

        Production periods record *cause* as their event, or the stage change if *cause* is None.
        """
        store = tx.store(RegistryStore)
        for change in plan.changes:
            event = self._change_stage(store, state, plan, change, act)
            _write_tenure(store, change, cause or event, act.reason or change.why)
            tx.append(event)
            if change.before is Stage.CANARY:
                tx.store(PlannedChanges).drop_canary_run(change.ref.model)
        if plan.deployment is not None:
            store.put_deployment(plan.deployment)
            store.bump_revision()
        if cause is not None:
            tx.append(cause)
        if plan.changes:
            model = str(state.deployment.model)
            tx.start(
                WorkflowCall(
                    name=MIRROR_ALIAS, id=f"{MIRROR_ALIAS}/{self._transactions.new_id()}", input={"model": model}
                )
            )
        return after(state, plan)

    def _change_stage(
        self, store: RegistryStore, state: ModelState, plan: Plan, change: StageChange, act: Act
    ) -> Event:
        record = state.versions[change.ref.number]
        enters = change.after in {Stage.CANARY, Stage.PRODUCTION}
        governance = (plan.governance if enters else None) or record.governance
        store.replace_version(replace(record, stage=change.after, governance=governance))
        return self._transactions.version_event(
            "model.stage_changed",
            record,
            act.by,
            moment_of(act, state),
            from_stage=change.before,
            to_stage=change.after,
            why=change.why,
            reason=act.reason,
            generation=after(state, plan).generation,
        )


def moment_of(act: Act, state: ModelState) -> datetime:
    """
    Give the time of *act*, but never before the last change of production: a clock that was set back would otherwise
    end a period in production before its start.
    """
    last = state.tenures[-1] if state.tenures else None
    return act.at if last is None else max(act.at, last.end or last.start)


def state_of(store: RegistryStore, model: ModelName, *more: VersionRecord) -> ModelState:
    """
    Read the facts for a plan: deployment, production periods, policy, and all deployed or formerly deployed versions.

    The versions *more* are added together with their parents. Versions are read when a plan asks for them, so that a
    promotion does not become slower with the length of the history.
    """
    deployment = deployment_of(store, model)
    tenures = store.tenures(model)
    numbers = {*deployment.versions, *(tenure.version for tenure in tenures)}
    numbers |= {record.parent.number for record in more if record.parent is not None and record.parent.model == model}
    return ModelState(
        deployment=deployment,
        versions=_Versions(store, model, numbers, more),
        tenures=tenures,
        policy=current_policy(store, model),
    )


class _Versions(Mapping[int, VersionRecord]):
    """The versions *numbers* of *model*, each read at its first use, within the transaction of *store*."""

    def __init__(
        self, store: RegistryStore, model: ModelName, numbers: set[int], read: Iterable[VersionRecord]
    ) -> None:
        self._store = store
        self._model = model
        self._read = {record.number: record for record in read}
        self._numbers = numbers | self._read.keys()

    def __getitem__(self, number: int) -> VersionRecord:
        if number not in self._numbers:
            raise KeyError(number)
        if number not in self._read:
            self._read[number] = require_version(self._store, VersionRef(self._model, number))
        return self._read[number]

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._numbers))

    def __len__(self) -> int:
        return len(self._numbers)


def deployment_of(store: RegistryStore, model: ModelName) -> Deployment:
    """Give the deployment of *model*; an empty one of generation 0 before the first change."""
    return store.deployment(model) or Deployment(model=model)


def after(state: ModelState, plan: Plan) -> Deployment:
    """Give the model's deployment as it is after *plan* is applied."""
    return plan.deployment or state.deployment


def entering(plan: Plan, state: ModelState, stage: Stage) -> VersionRecord:
    """Find the version that *plan* moves to *stage*."""
    return next(state.versions[change.ref.number] for change in plan.changes if change.after is stage)


def newest_gate(store: RegistryStore, ref: VersionRef) -> GateRecord | None:
    """Find the newest gate record of *ref*, which decides about promotion; None if *ref* was never judged."""
    records = store.gate_records(ref)
    return records[-1] if records else None


def _write_tenure(store: RegistryStore, change: StageChange, cause: Event, reason: str) -> None:
    model = change.ref.model
    if change.before is Stage.PRODUCTION:
        store.close_tenure(model, end=cause.time, event=cause.id)
    if change.after is Stage.PRODUCTION:
        store.open_tenure(
            ProductionPeriod(
                model=model,
                version=change.ref.number,
                start=cause.time,
                actor=cause.actor,
                reason=reason,
                start_event=cause.id,
            )
        )
