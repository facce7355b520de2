"""The transition table of stages, and plans for every change of stage or deployment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from mendel.errors import (
    Conflict,
    GenerationConflict,
    IllegalTransition,
    InvalidValue,
    NothingToReturnTo,
    PromotionRefused,
)
from mendel.registry.admission import admit, require_same_code, signature_refusals
from mendel.registry.history import GateRecord, Override, ProductionPeriod, former_versions, in_production_at
from mendel.registry.policies import PolicyDocument
from mendel.registry.version_records import Governance, VersionRecord
from mendel.values import Deployment, Route, Stage, VersionRef

TRANSITIONS: Mapping[Stage, tuple[Stage, ...]] = {
    Stage.DEVELOPMENT: (Stage.SANDBOX, Stage.DEPRECATED),
    Stage.SANDBOX: (Stage.CANARY, Stage.PRODUCTION, Stage.DEPRECATED),
    Stage.CANARY: (Stage.PRODUCTION, Stage.SANDBOX, Stage.DEPRECATED),
    Stage.PRODUCTION: (Stage.SANDBOX, Stage.ROLLBACK, Stage.DEPRECATED),
    Stage.ROLLBACK: (Stage.SANDBOX, Stage.DEPRECATED),
    Stage.DEPRECATED: (),
}
"""Every move there is."""

_UNFIT_TO_RETURN = frozenset({Stage.ROLLBACK, Stage.DEPRECATED})


@dataclass(frozen=True, slots=True, kw_only=True)
class StageChange:
    """A version moves; ``why`` in a word or a sentence."""

    ref: VersionRef
    before: Stage
    after: Stage
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    One change of a model's life, to be carried out in one transaction.

    Attributes:
        changes: Stage changes in an order that never has two production versions.
        deployment: The desired state afterwards, one generation up; None: it stays.
        governance: Flags that the version gains by inheritance.
    """

    changes: tuple[StageChange, ...]
    deployment: Deployment | None = None
    governance: Governance | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """What decisions about one model look at, read in one transaction."""

    deployment: Deployment
    versions: Mapping[int, VersionRecord]
    tenures: tuple[ProductionPeriod, ...]
    policy: PolicyDocument

    @property
    def serving(self) -> VersionRecord | None:
        """The production version."""
        number = self.deployment.production
        return None if number is None else self.versions[number]


def require_transition(before: Stage, after: Stage) -> None:
    """
    Let only the moves of the table pass.

    Raises:
        IllegalTransition: Any other; says which are possible.

    >>> require_transition(Stage.SANDBOX, Stage.PRODUCTION)
    >>> require_transition(Stage.DEPRECATED, Stage.SANDBOX)
    Traceback (most recent call last):
    mendel.errors.IllegalTransition: A version in deprecated cannot move to sandbox. From there it moves nowhere.
    """
    possible = TRANSITIONS[before]
    if after not in possible:
        moves = f"to {', '.join(possible)}" if possible else "nowhere"
        raise IllegalTransition(
            f"A version in {before} cannot move to {after}.", remedy=f"From there it moves {moves}."
        )


def plan_promotion(
    state: ModelState,
    candidate: VersionRecord,
    *,
    expected_generation: int,
    gate: GateRecord | None,
    override: Override | None,
    now: datetime,
) -> Plan:
    """
    Decide whether *candidate* may become the production version, and what that changes.

    The former production version goes to sandbox and stays loaded; a canary that is not the candidate is demoted.

    Args:
        gate: The newest gate record of exactly this version.
        override: Stands in for a passing gate record, and for nothing else.

    Raises:
        GenerationConflict: Somebody changed the deployment since *expected_generation*.
        IllegalTransition: The candidate's stage does not lead to production.
        PromotionRefused: Governance, gates or signature stand against it; carries every reason.
        NeedsNewImage: It belongs to other code or dependencies than the serving version.
    """
    _require_generation(state.deployment, expected_generation)
    require_transition(candidate.stage, Stage.PRODUCTION)
    governance = _admitted(state, candidate, gate, override, now)
    former = state.serving
    changes = _demoted_canary(state, but=candidate.number)
    if former is not None:
        changes += (_moved(former, Stage.SANDBOX, f"superseded by {candidate.ref}"),)
    deployment = replace(
        state.deployment,
        generation=state.deployment.generation + 1,
        routes=(Route(version=candidate.number, share=1.0),),
        keep=() if former is None else (former.number,),
        shadow=_unless(state.deployment.shadow, candidate.number),
        fallback=_unless(state.deployment.fallback, candidate.number),
    )
    return Plan(
        changes=(*changes, _moved(candidate, Stage.PRODUCTION, "promoted")),
        deployment=deployment,
        governance=governance,
    )


def plan_canary(
    state: ModelState,
    candidate: VersionRecord,
    *,
    share: float,
    gate: GateRecord | None,
    now: datetime,
) -> Plan:
    """
    Decide whether *candidate* may see *share* of the traffic beside production, or another share than it has.

    Raises:
        Conflict: There is no production version, or another canary runs.
        IllegalTransition, PromotionRefused, NeedsNewImage: As for a promotion.
    """
    if not 0 < share < 1:
        raise InvalidValue(
            f"A canary's share must be between 0 and 1, not {share}.", remedy="Promote the version for all traffic."
        )
    serving = state.serving
    if serving is None:
        raise Conflict(
            f"A canary needs a production version, and {candidate.model} has none.", remedy="Promote a version first."
        )
    running = next((r.version for r in state.deployment.routes[1:] if r.version != candidate.number), None)
    if running is not None:
        raise Conflict(
            f"{candidate.model}@{running} is already the canary.",
            remedy=f"Promote or demote {candidate.model}@{running} first.",
        )
    changes: tuple[StageChange, ...] = ()
    governance = None
    if candidate.stage is not Stage.CANARY:
        require_transition(candidate.stage, Stage.CANARY)
        governance = _admitted(state, candidate, gate, None, now)
        changes = (_moved(candidate, Stage.CANARY, f"canary at {share:g}"),)
    deployment = replace(
        state.deployment,
        generation=state.deployment.generation + 1,
        routes=(
            Route(version=serving.number, share=1 - share),
            Route(version=candidate.number, share=share),
        ),
    )
    return Plan(changes=changes, deployment=deployment, governance=governance)


def plan_rollback(state: ModelState, *, to: int | None = None, to_time: datetime | None = None) -> Plan:
    """
    Decide what to return to: the most recent former production version that is neither rolled back nor deprecated,
    or *to*, or the version that was in production at *to_time*.

    Exempt from gates, governance and cooldown; never from signature and code.

    Raises:
        NothingToReturnTo: No version serves, or none fits.
        IllegalTransition: The version named stands in a stage that does not lead to production.
        PromotionRefused: Its signature does not take what the serving one takes.
        NeedsNewImage: It belongs to other code.
    """
    serving = state.serving
    if serving is None:
        raise NothingToReturnTo(f"{state.deployment.model} has no version in production to roll back.")
    target = state.versions[_return_target(state, serving, to=to, to_time=to_time)]
    require_transition(target.stage, Stage.PRODUCTION)
    if refusals := signature_refusals(target, serving):
        raise PromotionRefused(f"{target.ref} cannot return to production: {refusals[0]}", reasons=refusals)
    require_same_code(target, serving)
    deployment = replace(
        state.deployment,
        generation=state.deployment.generation + 1,
        routes=(Route(version=target.number, share=1.0),),
        keep=(),
        shadow=_unless(state.deployment.shadow, target.number),
        fallback=_unless(state.deployment.fallback, target.number, serving.number),
    )
    return Plan(
        changes=(
            *_demoted_canary(state, but=target.number),
            _moved(serving, Stage.ROLLBACK, f"rolled back to {target.ref}"),
            _moved(target, Stage.PRODUCTION, f"returned after {serving.ref}"),
        ),
        deployment=deployment,
    )


def plan_transition(state: ModelState, record: VersionRecord, after: Stage, *, undeploy: bool) -> Plan:
    """
    Decide a move that brings nothing into production or canary.

    A version that leaves canary, or is deprecated, leaves the deployment too.

    Raises:
        IllegalTransition: Not in the table.
        Conflict: In the table, but reached by another verb: promote, canary or roll_back.
    """
    require_transition(record.stage, after)
    if after in {Stage.PRODUCTION, Stage.CANARY, Stage.ROLLBACK}:
        verb = {Stage.PRODUCTION: "promote", Stage.CANARY: "canary", Stage.ROLLBACK: "rollback"}[after]
        raise Conflict(
            f"Cannot set the stage of {record.ref} to {after} with 'mendel stage'.", remedy=f"Use: mendel {verb}"
        )
    if record.stage is Stage.PRODUCTION and after is Stage.SANDBOX:
        raise Conflict(f"{record.ref} is in production.", remedy="Promote another version in its place.")
    if record.stage is Stage.PRODUCTION and not undeploy:
        raise Conflict(f"{record.ref} is in production.", remedy="Pass undeploy, or promote another version first.")
    changes: tuple[StageChange, ...] = (_moved(record, after, "undeployed" if undeploy else "moved"),)
    if record.stage is Stage.PRODUCTION:
        changes = (*_demoted_canary(state, but=record.number), *changes)
    return Plan(changes=changes, deployment=_without(state.deployment, record, leaves=after is Stage.DEPRECATED))


def plan_release_of_kept(state: ModelState, *, now: datetime) -> Plan:
    """Drop from ``keep`` the versions whose bake is over: as long ago as the policy's bake, or never in production."""
    ends = {t.version: t.end for t in state.tenures if t.end is not None}
    keep = tuple(
        v for v in state.deployment.keep if (ended := ends.get(v)) is not None and now < ended + state.policy.bake
    )
    if keep == state.deployment.keep:
        return Plan(changes=())
    grown = replace(state.deployment, generation=state.deployment.generation + 1, keep=keep)
    return Plan(changes=(), deployment=grown)


def _admitted(
    state: ModelState, candidate: VersionRecord, gate: GateRecord | None, override: Override | None, now: datetime
) -> Governance:
    parent = candidate.parent
    known = None if parent is None or parent.model != candidate.model else state.versions.get(parent.number)
    return admit(
        candidate, serving=state.serving, parent=known, policy=state.policy, gate=gate, override=override, now=now
    )


def _require_generation(deployment: Deployment, expected: int) -> None:
    if deployment.generation != expected:
        raise GenerationConflict(
            f"{deployment.model} is at generation {deployment.generation}, not {expected}: another call changed it.",
            expected=expected,
            actual=deployment.generation,
            remedy="Read the deployment again, then repeat the call.",
        )


def _return_target(state: ModelState, serving: VersionRecord, *, to: int | None, to_time: datetime | None) -> int:
    model = serving.model
    if to is not None and to_time is not None:
        raise InvalidValue("A rollback takes a version or a time, not both.")
    former = former_versions(state.tenures, serving=serving.number)
    if to_time is not None:
        to = in_production_at(state.tenures, to_time)
        if to is None:
            raise NothingToReturnTo(f"No version of {model} was in production at {to_time.isoformat()}.")
    if to is not None:
        if to not in former:
            raise NothingToReturnTo(
                f"{model}@{to} is not a former production version of {model}.",
                remedy=f"Former production versions: {', '.join(map(str, former)) or 'none'}.",
            )
        return to
    fit = next((number for number in former if state.versions[number].stage not in _UNFIT_TO_RETURN), None)
    if fit is None:
        raise NothingToReturnTo(
            f"No production version before {serving.number} for model {model!r}.",
            remedy="Pass --to, or register and promote another version.",
        )
    return fit


def _demoted_canary(state: ModelState, *, but: int) -> tuple[StageChange, ...]:
    return tuple(
        _moved(state.versions[route.version], Stage.SANDBOX, "demoted: production changed")
        for route in state.deployment.routes[1:]
        if route.version != but
    )


def _moved(record: VersionRecord, after: Stage, why: str) -> StageChange:
    require_transition(record.stage, after)
    return StageChange(ref=record.ref, before=record.stage, after=after, why=why)


def _unless(number: int | None, *taken: int) -> int | None:
    return None if number in taken else number


def _without(deployment: Deployment, record: VersionRecord, *, leaves: bool) -> Deployment | None:
    number, before, routes = record.number, deployment, deployment.routes
    if record.stage is Stage.PRODUCTION:
        deployment = replace(deployment, keep=())
        routes = ()
    elif any(route.version == number for route in routes):
        routes = (Route(version=routes[0].version, share=1.0),)
    rest = replace(deployment, routes=routes)
    if leaves:
        rest = replace(
            rest,
            keep=tuple(v for v in deployment.keep if v != number),
            shadow=_unless(deployment.shadow, number),
            fallback=_unless(deployment.fallback, number),
        )
    return None if rest == before else replace(rest, generation=before.generation + 1)
