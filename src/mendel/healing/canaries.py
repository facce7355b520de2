"""Begin canaries that grow in steps, and carry out the decision about each step."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from mendel.durable import UnitOfWork
from mendel.errors import Conflict, GenerationConflict
from mendel.healing.canary_steps import CanaryDecision, CanaryPolicy, StepVerdict, decide_step
from mendel.healing.healing_facts import ACTOR
from mendel.healing.incident_journal import pause_of
from mendel.healing.ports import HealingStore
from mendel.registry import CanaryRun, Registry, next_opening
from mendel.values import Deployment, ModelName, Stage, VersionRef, Window, to_builtins


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryState:
    """A canary that grows in steps, and the decision about it as things stand."""

    run: CanaryRun
    decision: CanaryDecision


class Canaries:
    """
    Runs canaries by the policy's steps, without touching the production version before the promotion.

    A step's decision, its evidence and its change are one transaction, so that a killed hub repeats nothing.
    """

    def __init__(self, unit: UnitOfWork, registry: Registry) -> None:
        self._unit = unit
        self._registry = registry

    def begin(self, ref: VersionRef, *, by: str, now: datetime) -> Deployment:
        """
        Give *ref* the share of the policy's first step.

        Raises:
            Conflict: The model has no production version, or another canary.
            VersionNotFound, IllegalTransition, PromotionRefused, NeedsNewImage: Nothing changed.
        """
        steps = CanaryPolicy.of(self._registry.policies.of(ref.model).body).steps
        standing = self._registry.side_routes.canary_run(ref.model)
        if standing is not None and standing.ref == ref:
            raise Conflict(
                f"{ref} already is a canary in steps.", remedy=f"See its step with: mendel canaries {ref.model}"
            )
        run = CanaryRun(ref=ref, steps=steps, began=now, step_began=now, by=by)
        return self._registry.side_routes.canary(ref.model, ref.number, run.share, by=by, run=run)

    def states(self, now: datetime, model: ModelName | None = None) -> tuple[CanaryState, ...]:
        """Give every canary that grows in steps, or that of *model*, with the decision as things stand."""
        runs = self._registry.side_routes.canary_runs()
        return tuple(
            CanaryState(run=run, decision=self._decide(run, now)[1]) for run in runs if model in {None, run.ref.model}
        )

    def take_steps(self, now: datetime) -> tuple[CanaryState, ...]:
        """Decide about every canary, and carry the decisions out; gives those that changed something."""
        states = (self._step(run, now) for run in self._registry.side_routes.canary_runs())
        return tuple(state for state in states if state is not None)

    def _step(self, run: CanaryRun, now: datetime) -> CanaryState | None:
        deployment, decision = self._decide(run, now)
        if decision.verdict is StepVerdict.WAIT:
            return None
        try:
            self._carry_out(run, decision, deployment.generation, now)
        except Conflict as error:
            if self._registry.side_routes.canary_run(run.ref.model) != run or isinstance(error, GenerationConflict):
                return None  # a person or a playbook was faster; the next call decides anew
            # the version may not serve all users, so it does not go on serving some
            decision = replace(decision, verdict=StepVerdict.DEMOTE, why=f"it cannot go on: {error}")
            self._demote(run, decision)
        return CanaryState(run=run, decision=decision)

    def _decide(self, run: CanaryRun, now: datetime) -> tuple[Deployment, CanaryDecision]:
        model, registry = run.ref.model, self._registry
        deployment, document = registry.lifecycle.deployment(model), registry.policies.of(model)
        production = VersionRef(model, deployment.production or run.ref.number)
        period = Window(min(run.step_began, now), now)
        decision = decide_step(
            run,
            CanaryPolicy.of(document.body),
            registry.performance.snapshot(run.ref, period),
            registry.performance.snapshot(production, period),
            opening=next_opening(document.promotion, now),
            now=now,
        )
        pause = self._unit.read(lambda tx: pause_of(tx.store(HealingStore), model))
        if pause is not None and decision.verdict is not StepVerdict.WAIT:
            decision = replace(decision, verdict=StepVerdict.WAIT, why=f"healing is paused: {pause.reason}")
        return deployment, decision

    def _carry_out(self, run: CanaryRun, decision: CanaryDecision, generation: int, now: datetime) -> None:
        if decision.verdict is StepVerdict.DEMOTE:
            self._demote(run, decision)
            return
        told = {"reason": _because(run, decision), "evidence": to_builtins(decision)}
        if decision.verdict is StepVerdict.PROMOTE:
            self._registry.lifecycle.promote(run.ref, by=ACTOR, expected_generation=generation, **told)
            return
        grown = replace(run, step=run.step + 1, step_began=now)
        self._registry.side_routes.canary(
            run.ref.model, run.ref.number, grown.share, by=ACTOR, run=grown, expected_generation=generation, **told
        )

    def _demote(self, run: CanaryRun, decision: CanaryDecision) -> None:
        self._registry.lifecycle.transition(
            run.ref, Stage.SANDBOX, by=ACTOR, reason=_because(run, decision), evidence=to_builtins(decision)
        )


def _because(run: CanaryRun, decision: CanaryDecision) -> str:
    return f"canary step {run.step + 1} of {len(run.steps)}: {decision.why}"
