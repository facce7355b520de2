"""Approvals, stages, promotion and rollback, and the deployments that result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from mendel.durable import Clock, StepKey, Transaction
from mendel.errors import Conflict
from mendel.registry.api_keys import hashes_for_servers
from mendel.registry.history import GateRecord, Override, ProductionPeriod, RolledBack
from mendel.registry.lookups import current_policy, require_model, require_version
from mendel.registry.parity_rule import unmeasured_because
from mendel.registry.ports import RegistryStore
from mendel.registry.stage_plans import (
    ModelState,
    plan_promotion,
    plan_release_of_kept,
    plan_rollback,
    plan_transition,
    plan_undeployment,
)
from mendel.registry.stage_transitions import (
    Act,
    StageTransitions,
    after,
    deployment_of,
    entering,
    newest_gate,
    state_of,
)
from mendel.registry.transactions import RegistryTransactions
from mendel.registry.version_records import Approval, ParityWaiver, VersionRecord
from mendel.values import Deployment, DesiredModel, DesiredState, ModelName, Scope, Stage, VersionRef


class Lifecycle:
    """
    Changes approvals, gate reports, stages and deployments of versions.

    Every change is one transaction together with its events.

    Args:
        builds: Whether servers may make the environments of versions.
    """

    def __init__(self, transactions: RegistryTransactions, clock: Clock, *, builds: bool) -> None:
        self._transactions = transactions
        self._clock = clock
        self._builds = builds
        self._plans = StageTransitions(transactions)

    def approve(self, ref: VersionRef, *, policy: bool = False, bias: bool = False, by: str) -> VersionRecord:
        """
        Set governance flags of a version, with actor and time; a flag passed as False is not changed.

        Raises:
            VersionNotFound: The version does not exist.
            Conflict: The policy asks for two people, and *by* registered the version.
        """
        now = self._clock()
        approval = Approval(by=by, at=now)

        def work(tx: Transaction) -> VersionRecord:
            store = tx.store(RegistryStore)
            record = require_version(store, ref)
            _require_second_person(store, record, by, now)
            governance = replace(
                record.governance,
                policy_compliant=approval if policy else record.governance.policy_compliant,
                bias_check_passed=approval if bias else record.governance.bias_check_passed,
            )
            approved = replace(record, governance=governance)
            store.replace_version(approved)
            tx.append(self._transactions.version_event("model.approved", record, by, now, policy=policy, bias=bias))
            return approved

        return self._transactions.write(work)

    def record_gate_report(
        self, ref: VersionRef, record: GateRecord, *, by: str = "gates", step: StepKey | None = None
    ) -> GateRecord:
        """
        Store a gate report of a version; promotion depends on the newest report.

        Raises:
            VersionNotFound: The version does not exist.
        """

        def work(tx: Transaction) -> GateRecord:
            store = tx.store(RegistryStore)
            version = require_version(store, ref)
            store.add_gate_record(ref, record)
            tx.append(
                self._transactions.version_event(
                    "gate.decided",
                    version,
                    by,
                    record.at,
                    verdict=record.verdict,
                    passed=record.passed,
                    report_digest=record.report_digest,
                )
            )
            return record

        return self._transactions.write_once(GateRecord, work, step)

    def promote(
        self,
        ref: VersionRef,
        *,
        by: str,
        reason: str = "",
        expected_generation: int | None = None,
        override: Override | None = None,
        evidence: Mapping[str, Any] | None = None,
        step: StepKey | None = None,
    ) -> Deployment:
        """
        Make *ref* the production version; the former one moves to sandbox and stays loaded during the policy's bake
        time.

        Args:
            expected_generation: The deployment's generation that the caller has read; None reads it at the start of the
                call. Of two concurrent promotions only one succeeds.
            override: Replaces a passing gate report; recorded with the promotion.
            evidence: The facts that the caller decided on, for the event.
            step: The key of the workflow step, so that a repeated step makes the change once.

        Raises:
            VersionNotFound, GenerationConflict, IllegalTransition, PromotionRefused, NeedsNewImage: Nothing changed.
        """
        seen = expected_generation
        if seen is None:
            seen = self._transactions.read(lambda store: deployment_of(store, ref.model).generation)
        act = Act(by=by, at=self._clock(), reason=reason, evidence=evidence or {})

        def work(tx: Transaction) -> Deployment:
            store = tx.store(RegistryStore)
            candidate = require_version(store, ref)
            state = self._state(store, ref.model, candidate)
            gate = newest_gate(store, ref)
            plan = plan_promotion(state, candidate, expected_generation=seen, gate=gate, override=override, now=act.at)
            cause = self._plans.cause(
                "model.promoted",
                candidate,
                act,
                state,
                plan,
                from_version=state.deployment.production,
                to_version=ref.number,
                gate_report=None if gate is None else gate.report_digest,
                override=override,
            )
            return self._plans.apply(tx, state, plan, act, cause)

        return self._transactions.write_once(Deployment, work, step)

    def require_promotable(
        self, store: RegistryStore, ref: VersionRef, override: Override | None, *, at: datetime
    ) -> None:
        """
        Check that *ref* could be promoted at the time *at* if nothing else changed.

        Raises:
            VersionNotFound, IllegalTransition, PromotionRefused, NeedsNewImage: It could not.
        """
        candidate = require_version(store, ref)
        state, gate = self._state(store, ref.model, candidate), newest_gate(store, ref)
        generation = state.deployment.generation
        plan_promotion(state, candidate, expected_generation=generation, gate=gate, override=override, now=at)

    def roll_back(
        self,
        model: ModelName,
        *,
        by: str,
        reason: str,
        to: int | None = None,
        step: StepKey | None = None,
    ) -> RolledBack:
        """
        Return a former version to production, by default the most recent fit one; see :func:`plan_rollback`.

        Raises:
            ModelNotFound, NothingToReturnTo, IllegalTransition, PromotionRefused, NeedsNewImage: Nothing changed.
        """
        act = Act(by=by, at=self._clock(), reason=reason)

        def work(tx: Transaction) -> RolledBack:
            store = tx.store(RegistryStore)
            require_model(store, model)
            state = self._state(store, model)
            plan = plan_rollback(state, to=to)
            target, away = entering(plan, state, Stage.PRODUCTION), entering(plan, state, Stage.ROLLBACK)
            cause = self._plans.cause(
                "model.rollback", away, act, state, plan, from_version=away.number, to_version=target.number
            )
            deployment = self._plans.apply(tx, state, plan, act, cause)
            return RolledBack(from_version=away.ref, to_version=target.ref, deployment=deployment)

        return self._transactions.write_once(RolledBack, work, step)

    def plan_roll_back(self, model: ModelName, *, to: int | None = None) -> RolledBack:
        """
        Compute the result that :meth:`roll_back` would have now, without changing anything.

        Raises:
            ModelNotFound, NothingToReturnTo, IllegalTransition, PromotionRefused, NeedsNewImage: As in
                :meth:`roll_back`.
        """

        def work(store: RegistryStore) -> RolledBack:
            require_model(store, model)
            state = self._state(store, model)
            plan = plan_rollback(state, to=to)
            return RolledBack(
                from_version=entering(plan, state, Stage.ROLLBACK).ref,
                to_version=entering(plan, state, Stage.PRODUCTION).ref,
                deployment=after(state, plan),
            )

        return self._transactions.read(work)

    def transition(
        self,
        ref: VersionRef,
        to: Stage,
        *,
        by: str,
        reason: str = "",
        without_parity: str | None = None,
        evidence: Mapping[str, Any] | None = None,
        step: StepKey | None = None,
    ) -> VersionRecord:
        """
        Move *ref* to a stage other than production or canary; a demoted canary loses its route.

        Args:
            without_parity: The reason to let a version leave development whose parity is not measured; recorded only
                where it is needed.
            evidence: The facts that the caller decided on, for the event of a changed deployment.

        Raises:
            VersionNotFound, IllegalTransition, Conflict: Nothing changed.
        """
        act = Act(by=by, at=self._clock(), reason=reason, evidence=evidence or {})

        def work(tx: Transaction) -> VersionRecord:
            store = tx.store(RegistryStore)
            record = require_version(store, ref)
            if without_parity is not None and to == Stage.SANDBOX:
                record = self._waived(tx, record, without_parity, act)
            state = self._state(store, ref.model, record)
            plan = plan_transition(state, record, to)
            changed = plan.deployment is not None
            cause = self._plans.cause("deployment.changed", record, act, state, plan) if changed else None
            self._plans.apply(tx, state, plan, act, cause)
            return require_version(store, ref)

        return self._transactions.write_once(VersionRecord, work, step)

    def _waived(self, tx: Transaction, record: VersionRecord, reason: str, act: Act) -> VersionRecord:
        """Record why *record* leaves development without parity, if its parity is not measured."""
        why = unmeasured_because(record)
        if record.stage is not Stage.DEVELOPMENT or record.without_parity is not None or why is None:
            return record
        waiver = ParityWaiver(reason=reason, unmeasured=why, by=act.by, at=act.at)
        tx.append(
            self._transactions.version_event(
                "model.parity_waived", record, act.by, act.at, reason=reason, unmeasured=why
            )
        )
        waived = replace(record, without_parity=waiver)
        tx.store(RegistryStore).replace_version(waived)
        return waived

    def undeploy(
        self,
        model: ModelName,
        *,
        by: str,
        reason: str = "",
        deprecate: bool = False,
        expected_generation: int | None = None,
    ) -> Deployment:
        """
        Take the production version out of production, whether or not a server could ever load it.

        The model then serves nothing. A canary is demoted.

        Args:
            deprecate: Deprecate the version instead of moving it to sandbox, so that it never serves again.
            expected_generation: Generation of the deployment that the caller has seen; None takes the current one.

        Raises:
            ModelNotFound, GenerationConflict, Conflict: Nothing changed.
        """
        act = Act(by=by, at=self._clock(), reason=reason)

        def work(tx: Transaction) -> Deployment:
            store = tx.store(RegistryStore)
            require_model(store, model)
            state = self._state(store, model)
            plan = plan_undeployment(state, deprecate=deprecate, expected_generation=expected_generation)
            leaving = entering(plan, state, Stage.DEPRECATED if deprecate else Stage.SANDBOX)
            cause = self._plans.cause("deployment.changed", leaving, act, state, plan, from_version=leaving.number)
            return self._plans.apply(tx, state, plan, act, cause)

        return self._transactions.write(work)

    def release_kept(self, model: ModelName, now: datetime) -> Deployment:
        """Let servers unload former versions whose bake time is over; gives the deployment, changed or not."""
        state = self._transactions.read(lambda store: self._state(store, model))
        if plan_release_of_kept(state, now=now).deployment is None:
            return state.deployment
        act = Act(by="registry", at=now, reason="the bake is over")

        def work(tx: Transaction) -> Deployment:
            state = self._state(tx.store(RegistryStore), model)
            plan = plan_release_of_kept(state, now=now)
            if plan.deployment is None:
                return state.deployment
            cause = self._transactions.event(
                "deployment.changed",
                str(model),
                act.by,
                act.at,
                generation=plan.deployment.generation,
                keep=plan.deployment.keep,
                reason=act.reason,
            )
            return self._plans.apply(tx, state, plan, act, cause)

        return self._transactions.write(work)

    def deployment(self, model: ModelName) -> Deployment:
        """
        Give the deployment of *model*; before its first change, generation 0 without routes.

        Raises:
            ModelNotFound: *model* has no version.
        """

        def work(store: RegistryStore) -> Deployment:
            require_model(store, model)
            return deployment_of(store, model)

        return self._transactions.read(work)

    def desired_state(self) -> DesiredState:
        """Give the desired state of all models for servers, read at one moment."""
        now = self._clock()

        def work(store: RegistryStore) -> DesiredState:
            return DesiredState(
                revision=store.revision(),
                models=tuple(_desired(store, deployment) for deployment in store.deployments()),
                key_hashes=hashes_for_servers(store.api_keys(), now),
                key_expiries={key.digest: key.expires_at for key in store.api_keys() if key.expires_at is not None},
            )

        return self._transactions.read(work)

    def revision(self) -> int:
        """Give the revision of :meth:`desired_state`, which grows with every change."""
        return self._transactions.read(lambda store: store.revision())

    def history(self, model: ModelName) -> tuple[ProductionPeriod, ...]:
        """
        Give the production periods of *model*, oldest first, with actors and the ids of the events.

        Raises:
            ModelNotFound: *model* has no version.
        """

        def work(store: RegistryStore) -> tuple[ProductionPeriod, ...]:
            require_model(store, model)
            return store.tenures(model)

        return self._transactions.read(work)

    def gate_records(self, ref: VersionRef) -> tuple[GateRecord, ...]:
        """
        Give the gate reports of *ref*, oldest first.

        Raises:
            VersionNotFound: The version does not exist.
        """

        def work(store: RegistryStore) -> tuple[GateRecord, ...]:
            require_version(store, ref)
            return store.gate_records(ref)

        return self._transactions.read(work)

    def _state(self, store: RegistryStore, model: ModelName, *more: VersionRecord) -> ModelState:
        return replace(state_of(store, model, *more), builds=self._builds)


def _require_second_person(store: RegistryStore, record: VersionRecord, by: str, now: datetime) -> None:
    if record.registered_by != by or not current_policy(store, record.model).governance.two_people:
        return
    others = {
        f"{key.principal.id} ({key.label})"
        for key in store.api_keys()
        if key.principal.may(Scope.APPROVE) and key.principal.id != by and key.refusal(now) is None
    }
    raise Conflict(
        f"The policy of {record.model} asks for two people: {by} registered {record.ref} and cannot approve it.",
        remedy=f"These may approve it: {', '.join(sorted(others))}."
        if others
        else "Make a key for another person with: mendel keys add --scope approve --label NAME",
    )


def _desired(store: RegistryStore, deployment: Deployment) -> DesiredModel:
    records = [require_version(store, VersionRef(deployment.model, number)) for number in deployment.versions]
    return DesiredModel(deployment=deployment, versions=tuple(record.served for record in records))
