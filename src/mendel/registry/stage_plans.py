"""The table of allowed stage transitions, and plans for every change of stage or deployment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from mendel.errors import (
    Conflict,
    GenerationConflict,
    IllegalTransition,
    NeedsNewImage,
    NothingToReturnTo,
    PromotionRefused,
)
from mendel.registry.admission import admit, require_same_code, signature_refusals
from mendel.registry.history import GateRecord, Override, ProductionPeriod, former_versions
from mendel.registry.parity_rule import require_parity
from mendel.registry.policies import PolicyDocument
from mendel.registry.promotion_windows import Beside, require_open
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
"""The allowed transitions, from each stage."""

_UNFIT_TO_RETURN = frozenset({Stage.ROLLBACK, Stage.DEPRECATED})


@dataclass(frozen=True, slots=True, kw_only=True)
class StageChange:
    """A change of one version's stage; ``why`` is the reason as a word or sentence."""

    ref: VersionRef
    before: Stage
    after: Stage
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    A change of one model, to be applied in one transaction.

    Attributes:
        changes: The stage changes, ordered so that there are never two production versions.
        deployment: The new deployment, one generation higher; None if unchanged.
        governance: The governance flags that the version inherits.
    """

    changes: tuple[StageChange, ...]
    deployment: Deployment | None = None
    governance: Governance | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelState:
    """
    The facts about one model that plans are made from, read in one transaction.

    ``builds`` is True when servers may make the environments of versions (``serving.environments``).
    """

    deployment: Deployment
    versions: Mapping[int, VersionRecord]
    tenures: tuple[ProductionPeriod, ...]
    policy: PolicyDocument
    builds: bool = False

    @property
    def serving(self) -> VersionRecord | None:
        """The production version, or None."""
        number = self.deployment.production
        return None if number is None else self.versions[number]


def require_transition(before: Stage, after: Stage) -> None:
    """
    Check that the transition is in the table.

    Raises:
        IllegalTransition: The transition is not allowed; the message names the allowed ones.

    >>> require_transition(Stage.SANDBOX, Stage.PRODUCTION)
    >>> require_transition(Stage.DEPRECATED, Stage.SANDBOX)
    Traceback (most recent call last):
    mendel.errors.IllegalTransition: A version in deprecated cannot move to sandbox. Possible next stages: none.
    """
    possible = TRANSITIONS[before]
    if after not in possible:
        moves = ", ".join(possible) or "none"
        raise IllegalTransition(
            f"A version in {before} cannot move to {after}.",
            remedy=f"Possible next stages: {moves}.",
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
    Check that *candidate* may become the production version, and plan the change.

    The former production version moves to sandbox and stays loaded. Another version in canary moves to sandbox.

    Args:
        gate: The newest gate record of *candidate*.
        override: Replaces a passing gate record, but no other check.

    Raises:
        GenerationConflict: The deployment's generation is not *expected_generation*.
        IllegalTransition: No transition leads from the candidate's stage to production.
        PromotionRefused: The time, governance, gates or signature forbid the promotion; the error has every reason.
        NeedsNewImage: The candidate needs other code or dependencies than the production version.
    """
    require_generation(state.deployment, expected_generation)
    require_transition(candidate.stage, Stage.PRODUCTION)
    require_open(state.policy.promotion, now, str(candidate.ref))
    governance = admitted(state, candidate, gate, override, now)
    former = state.serving
    changes = _demoted_canary(state, but=candidate.number)
    if former is not None:
        changes += (moved(former, Stage.SANDBOX, f"superseded by {candidate.ref}"),)
    deployment = replace(
        state.deployment,
        generation=state.deployment.generation + 1,
        routes=(Route(version=candidate.number, share=1.0),),
        keep=() if former is None else (former.number,),
        shadow=_beside(state, candidate, state.policy.promotion.shadow, state.deployment.shadow),
        fallback=_beside(state, candidate, state.policy.promotion.fallback, state.deployment.fallback),
    )
    return Plan(
        changes=(*changes, moved(candidate, Stage.PRODUCTION, "promoted")),
        deployment=deployment,
        governance=governance,
    )


def plan_rollback(state: ModelState, *, to: int | None = None) -> Plan:
    """
    Plan the return to a former production version: *to*, or the most recent one that is neither in stage rollback nor
    deprecated.

    Gates, governance and cooldown are not checked, but signature and code are.

    Raises:
        NothingToReturnTo: No version is in production, or no former version is fit.
        IllegalTransition: No transition leads from the stage of the named version to production.
        PromotionRefused: The version would reject requests that the production version accepts.
        NeedsNewImage: The version needs other code.
    """
    serving = state.serving
    if serving is None:
        raise NothingToReturnTo(f"The model {state.deployment.model} has no version in production to roll back.")
    target = state.versions[_return_target(state, serving, to=to)]
    require_transition(target.stage, Stage.PRODUCTION)
    if refusals := signature_refusals(target, serving):
        raise PromotionRefused(f"{target.ref} cannot return to production: {refusals[0]}", reasons=refusals)
    if target.carries_code or not serving.carries_code:  # else: the servers hosted the code of *target* before
        require_same_code(target, serving, builds=state.builds)
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
            moved(serving, Stage.ROLLBACK, f"rolled back to {target.ref}"),
            moved(target, Stage.PRODUCTION, f"returned after {serving.ref}"),
        ),
        deployment=deployment,
    )


def plan_transition(state: ModelState, record: VersionRecord, after: Stage) -> Plan:
    """
    Plan a stage change that brings no version into production or canary.

    A version that leaves canary or is deprecated is removed from the deployment.

    Raises:
        IllegalTransition: The transition is not allowed.
        Conflict: The parity of a version in development does not let it leave (see :func:`require_parity`), or the
            transition is allowed only through promote, canary, roll_back or undeploy.
    """
    require_transition(record.stage, after)
    if record.stage is Stage.DEVELOPMENT and after is not Stage.DEPRECATED:
        require_parity(record)
    if after in {Stage.PRODUCTION, Stage.CANARY, Stage.ROLLBACK}:
        verb = {Stage.PRODUCTION: "promote", Stage.CANARY: "canary", Stage.ROLLBACK: "rollback"}[after]
        raise Conflict(
            f"Cannot set the stage of {record.ref} to {after} with 'mendel stage'.",
            remedy=f"Use the command: mendel {verb}",
        )
    if record.stage is Stage.PRODUCTION:
        undeploy = f"mendel undeploy {record.model}{' --deprecate' if after is Stage.DEPRECATED else ''}"
        raise Conflict(
            f"{record.ref} is in production and cannot move to {after} with 'mendel stage'.",
            remedy=f"Promote another version, or use the command: {undeploy}",
        )
    deployment = _without(state.deployment, record, leaves=after is Stage.DEPRECATED)
    if after == Stage.SANDBOX and record.stage == Stage.DEVELOPMENT:
        deployment = _newest_as_shadow(state, record)
    return Plan(changes=(moved(record, after, "moved"),), deployment=deployment)


def plan_undeployment(state: ModelState, *, deprecate: bool, expected_generation: int | None) -> Plan:
    """
    Plan to take the production version out of production, so that the model serves nothing.

    Raises:
        GenerationConflict: The deployment has changed since *expected_generation*.
        Conflict: No version is in production.
    """
    if expected_generation is not None:
        require_generation(state.deployment, expected_generation)
    serving, model = state.serving, state.deployment.model
    if serving is None:
        raise Conflict(f"{model} has no version in production.", remedy=f"See its versions: mendel models show {model}")
    leaving = moved(serving, Stage.DEPRECATED if deprecate else Stage.SANDBOX, "undeployed")
    return Plan(
        changes=(leaving, *_demoted_canary(state, but=serving.number)),
        deployment=replace(
            state.deployment,
            generation=state.deployment.generation + 1,
            routes=(),
            keep=(),
            shadow=None,
            fallback=None,
        ),
    )


def plan_release_of_kept(state: ModelState, *, now: datetime) -> Plan:
    """Plan to remove from ``keep`` the versions whose production period ended at least the policy's bake time ago."""
    ends = {t.version: t.end for t in state.tenures if t.end is not None}
    keep = tuple(
        v for v in state.deployment.keep if (ended := ends.get(v)) is not None and now < ended + state.policy.bake
    )
    if keep == state.deployment.keep:
        return Plan(changes=())
    grown = replace(state.deployment, generation=state.deployment.generation + 1, keep=keep)
    return Plan(changes=(), deployment=grown)


def _beside(state: ModelState, candidate: VersionRecord, wanted: Beside, standing: int | None) -> int | None:
    """
    Choose the shadow or the fallback after the promotion of *candidate*.

    It is the former production version where the policy says so, if that accepts the requests of *candidate*; otherwise
    the *standing* one, unless that is *candidate*.
    """
    former = state.serving
    if wanted is not Beside.FORMER or former is None:
        return _unless(standing, candidate.number)
    return None if signature_refusals(former, candidate) else former.number


def _newest_as_shadow(state: ModelState, record: VersionRecord) -> Deployment | None:
    """Make *record* the shadow, if the policy says so and it can be served beside the production version; else None."""
    serving = state.serving
    if serving is None or state.policy.promotion.shadow is not Beside.NEWEST or signature_refusals(record, serving):
        return None
    try:
        require_same_code(record, serving, builds=state.builds)
    except NeedsNewImage:
        return None
    return replace(state.deployment, generation=state.deployment.generation + 1, shadow=record.number)


def admitted(
    state: ModelState, candidate: VersionRecord, gate: GateRecord | None, override: Override | None, now: datetime
) -> Governance:
    """Check that *candidate* may reach users, and give its governance flags; see :func:`admit`."""
    parent = candidate.parent
    known = None if parent is None or parent.model != candidate.model else state.versions.get(parent.number)
    return admit(
        candidate,
        serving=state.serving,
        parent=known,
        policy=state.policy,
        gate=gate,
        override=override,
        now=now,
        builds=state.builds,
    )


def require_generation(deployment: Deployment, expected: int) -> None:
    """Raise GenerationConflict if *deployment* is not at the generation *expected*."""
    if deployment.generation != expected:
        raise GenerationConflict(
            (
                f"{deployment.model} is at generation {deployment.generation}, not {expected}: another "
                "call changed the deployment."
            ),
            expected=expected,
            actual=deployment.generation,
            remedy="Read the deployment again, then repeat the call.",
        )


def _return_target(state: ModelState, serving: VersionRecord, *, to: int | None) -> int:
    model = serving.model
    former = former_versions(state.tenures, serving=serving.number)
    if to is not None:
        if to not in former:
            before = f"was never in production before the current version of {model}"
            raise NothingToReturnTo(
                f"{model}@{to} {'is in production now' if to == serving.number else before}.",
                remedy=f"Former production versions: {', '.join(map(str, former)) or 'none'}.",
            )
        return to
    fit = next((number for number in former if state.versions[number].stage not in _UNFIT_TO_RETURN), None)
    if fit is None:
        raise NothingToReturnTo(
            f"No production version before {serving.number} for model {model!r}.",
            remedy="Name a version with --to, or register and promote another version.",
        )
    return fit


def _demoted_canary(state: ModelState, *, but: int) -> tuple[StageChange, ...]:
    return tuple(
        moved(state.versions[route.version], Stage.SANDBOX, "demoted: production changed")
        for route in state.deployment.routes[1:]
        if route.version != but
    )


def moved(record: VersionRecord, after: Stage, why: str) -> StageChange:
    """Make the change of the stage of *record* to *after*; raises IllegalTransition if the table does not allow it."""
    require_transition(record.stage, after)
    return StageChange(ref=record.ref, before=record.stage, after=after, why=why)


def _unless(number: int | None, *taken: int) -> int | None:
    return None if number in taken else number


def _without(deployment: Deployment, record: VersionRecord, *, leaves: bool) -> Deployment | None:
    number, routes = record.number, deployment.routes
    if any(route.version == number for route in routes):
        routes = (Route(version=routes[0].version, share=1.0),)
    rest = replace(deployment, routes=routes)
    if leaves:
        rest = replace(
            rest,
            keep=tuple(v for v in deployment.keep if v != number),
            shadow=_unless(deployment.shadow, number),
            fallback=_unless(deployment.fallback, number),
        )
    return None if rest == deployment else replace(rest, generation=deployment.generation + 1)
