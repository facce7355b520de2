"""Facts about a model that healing reads from the registry before it opens its own transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from mendel.healing.causes import Circumstances
from mendel.healing.policy import HealingPolicy
from mendel.healing.server_convergence import canary_of
from mendel.registry import PolicyDocument, ProductionPeriod, Registry
from mendel.retraining import LabelSupply
from mendel.values import ModelName, Stage, VersionRef

_UNFIT = frozenset({Stage.ROLLBACK, Stage.DEPRECATED})
ACTOR = "healing"


def actor_of(run_id: str) -> str:
    """Name the actor in events about changes by the playbook run *run_id*: ``healing:<run_id>``."""
    return f"{ACTOR}:{run_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealingFacts:
    """
    Facts about one model at one time.

    Attributes:
        production: The production version; None if no version is in production.
        canary: The version on the second route; None without a canary.
        return_to: The version that a rollback would return to production.
        tenures: Every period in production, oldest first.
    """

    model: ModelName
    at: datetime
    generation: int
    production: VersionRef | None
    stage: Stage | None
    return_to: int | None
    tenures: tuple[ProductionPeriod, ...]
    document: PolicyDocument
    policy: HealingPolicy
    canary: VersionRef | None = None
    supply: LabelSupply | None = None

    @property
    def section(self) -> dict[str, Any]:
        """
        The policy section ``healing`` as written, with the profile, which may be written in section ``rollback``
        instead.
        """
        return {"healing": self.document.section("healing"), "rollback": self.document.section("rollback")}

    @property
    def last_change(self) -> datetime | None:
        """When the production version last changed, including the first deployment; the cooldown starts then."""
        return max((tenure.end or tenure.start for tenure in self.tenures), default=None)

    def tenure(self, ref: VersionRef) -> ProductionPeriod | None:
        """Find the newest production period of *ref*; None if *ref* was never in production."""
        return next((one for one in reversed(self.tenures) if one.version == ref.number), None)

    def served_for(self, ref: VersionRef, at: datetime) -> timedelta | None:
        """
        How long *ref* had been in production at *at*, over all its periods; None if it never was.

        A period that begins after *at*, because a clock was set back, counts as 0.
        """
        nothing = timedelta(0)
        spans = [max(nothing, min(one.end or at, at) - one.start) for one in self.tenures if one.version == ref.number]
        return sum(spans, nothing) if spans else None

    def circumstances(self, ref: VersionRef, *, drifting: bool) -> Circumstances:
        """The circumstances that decide the cause of a signal about *ref*."""
        served = self.served_for(ref, self.at)
        return Circumstances(
            newly_promoted=served is not None and served < self.policy.bake,
            former=self.return_to is not None,
            drifting=drifting,
            canary=ref == self.canary,
        )


def read_healing_facts(registry: Registry, model: ModelName, now: datetime) -> HealingFacts:
    """
    Read the facts about *model* except the number of available labels, which is slow to count.

    Raises:
        ModelNotFound: *model* has no version.
        InvalidPolicy: The policy of *model* cannot be read.
    """
    deployment, document = registry.lifecycle.deployment(model), registry.policies.of(model)
    tenures = tuple(sorted(registry.lifecycle.history(model), key=lambda tenure: tenure.start))
    production = None if deployment.production is None else VersionRef(model, deployment.production)
    return HealingFacts(
        model=model,
        at=now,
        generation=deployment.generation,
        production=production,
        stage=None if production is None else registry.versions.get(production).stage,
        return_to=None if production is None else _return_to(registry, tenures, production),
        tenures=tenures,
        document=document,
        policy=HealingPolicy.of(document.body),
        canary=None if (canary := canary_of(deployment)) is None else VersionRef(model, canary),
    )


def _return_to(registry: Registry, tenures: Sequence[ProductionPeriod], production: VersionRef) -> int | None:
    former = dict.fromkeys(one.version for one in reversed(tenures) if one.version != production.number)
    fit = (
        number for number in former if registry.versions.get(VersionRef(production.model, number)).stage not in _UNFIT
    )
    return next(fit, None)
