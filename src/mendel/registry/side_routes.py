"""Set the versions beside the production version: canary, shadow and fallback."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mendel.durable import Clock, Transaction
from mendel.registry.lookups import require_model, require_version
from mendel.registry.planned_changes import CanaryRun, PlannedChanges
from mendel.registry.ports import RegistryStore
from mendel.registry.side_route_plans import SideRole, plan_canary, plan_side_version
from mendel.registry.stage_plans import ModelState, require_generation
from mendel.registry.stage_transitions import Act, StageTransitions, newest_gate, state_of
from mendel.registry.transactions import RegistryTransactions
from mendel.registry.version_records import VersionRecord
from mendel.values import Deployment, ModelName, VersionRef


class SideRoutes:
    """
    Changes which versions are served beside the production version; every change is one transaction with its event.

    Args:
        builds: Whether servers may make the environments of versions.
    """

    def __init__(self, transactions: RegistryTransactions, clock: Clock, *, builds: bool) -> None:
        self._transactions = transactions
        self._clock = clock
        self._builds = builds
        self._plans = StageTransitions(transactions)

    def canary(
        self,
        model: ModelName,
        version: int,
        share: float,
        *,
        by: str,
        reason: str = "",
        run: CanaryRun | None = None,
        expected_generation: int | None = None,
        evidence: Mapping[str, Any] | None = None,
    ) -> Deployment:
        """
        Route a share of the traffic to *version* beside production, or change that share.

        The canary ends by a promotion, or by a transition to sandbox, which leaves production as it is.

        Args:
            run: The steps in which the share grows; None keeps *share* until another call.
            evidence: The facts that the caller decided on, for the event.

        Raises:
            Conflict: The model has no production version, or another canary.
            GenerationConflict: The deployment is not at *expected_generation*; None allows any.
            VersionNotFound, IllegalTransition, PromotionRefused, NeedsNewImage: Nothing changed.
        """
        act = Act(by=by, at=self._clock(), reason=reason, evidence=evidence or {})
        ref = VersionRef(model, version)

        def work(tx: Transaction) -> Deployment:
            store = tx.store(RegistryStore)
            candidate = require_version(store, ref)
            state = self._state(store, model, candidate)
            if expected_generation is not None:
                require_generation(state.deployment, expected_generation)
            plan = plan_canary(state, candidate, share=share, gate=newest_gate(store, ref), now=act.at)
            steps = {} if run is None else {"steps": run.steps, "step": run.step}
            cause = self._plans.cause("deployment.changed", candidate, act, state, plan, canary_share=share, **steps)
            deployment = self._plans.apply(tx, state, plan, act, cause)
            _keep_run(tx.store(PlannedChanges), model, run)
            return deployment

        return self._transactions.write(work)

    def canary_run(self, model: ModelName) -> CanaryRun | None:
        """Give the canary of *model* that grows in steps; None without one."""
        return self._transactions.read_all(lambda tx: tx.store(PlannedChanges).canary_run(model))

    def canary_runs(self) -> tuple[CanaryRun, ...]:
        """Give every canary that grows in steps, by model."""
        return self._transactions.read_all(lambda tx: tx.store(PlannedChanges).canary_runs())

    def set_side_version(
        self,
        model: ModelName,
        role: SideRole,
        version: int | None,
        *,
        by: str,
        reason: str = "",
        expected_generation: int | None = None,
    ) -> Deployment:
        """
        Make *version* the shadow or the fallback of *model*, or end the role with None.

        Raises:
            ModelNotFound, VersionNotFound: The model or the version does not exist.
            GenerationConflict, Conflict, PromotionRefused, NeedsNewImage: Nothing changed; see
                :func:`plan_side_version`.
        """
        act = Act(by=by, at=self._clock(), reason=reason)

        def work(tx: Transaction) -> Deployment:
            store = tx.store(RegistryStore)
            require_model(store, model)
            record = None if version is None else require_version(store, VersionRef(model, version))
            state = self._state(store, model, *(() if record is None else (record,)))
            gate = None if record is None else newest_gate(store, record.ref)
            plan = plan_side_version(
                state, role, record, expected_generation=expected_generation, gate=gate, now=act.at
            )
            if plan.deployment is None:
                return state.deployment
            former = getattr(state.deployment, role)
            subject = record or state.versions[former]
            changed = {"role": role, "from_version": former, "to_version": version}
            cause = self._plans.cause("deployment.changed", subject, act, state, plan, **changed)
            return self._plans.apply(tx, state, plan, act, cause)

        return self._transactions.write(work)

    def _state(self, store: RegistryStore, model: ModelName, *more: VersionRecord) -> ModelState:
        return replace(state_of(store, model, *more), builds=self._builds)


def _keep_run(planned: PlannedChanges, model: ModelName, run: CanaryRun | None) -> None:
    if run is None:
        planned.drop_canary_run(model)
    else:
        planned.put_canary_run(run)
