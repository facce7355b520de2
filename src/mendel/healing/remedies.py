"""Choose the remedy for an incident from its cause, the age of the version and the replay of the former version."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from mendel.healing.decision_facts import Facts
from mendel.healing.entities import Incident
from mendel.healing.playbook_runs import PlaybookRun, RunState
from mendel.healing.policy import NO_REMEDY, NOTIFY, REMEDIES, REPLAY, RETRAIN, ROLLBACK, HealingPolicy
from mendel.values import Severity, render_duration


class Former(StrEnum):
    """
    Whether the former version would do better on the incident's own rows.

    ``unknown``: the replay could not tell, or had no result in time.
    """

    BETTER = "better"
    AS_BAD = "as_bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """The name of the playbook for an incident, and why; None if healing only observes."""

    playbook: str | None
    why: str


def remedy_for(incident: Incident, policy: HealingPolicy, facts: Facts) -> Remedy:
    """
    Choose the playbook for *incident*.

    The first applicable rule decides, in this order: the remedy that the policy names for the cause; causes about
    servers and canaries; readings in the warning band; the profile ``classic``; faults of a new version; no former
    version to return to; and last the replay of the former version, which is started if it has not run yet.
    """
    cause = incident.cause
    if (named := policy.remedies.get(cause.value)) is not None:
        return _named(incident, named)
    default = REMEDIES[cause]
    if default.at_once is not None:
        return Remedy(playbook=default.at_once, why=f"the remedy for {cause} is {default.at_once}")
    if incident.evidence_severity is Severity.LOW:
        return Remedy(playbook=NOTIFY, why=f"{cause} is in the warning band, so the remedy is {NOTIFY}")
    if policy.profile == "classic":
        return Remedy(playbook=ROLLBACK, why=f"the remedy for {cause} under the profile classic is {ROLLBACK}")
    if default.in_bake is not None and is_new(policy, facts):
        new = f"{incident.ref} is new (healing.bake is {render_duration(policy.bake)})"
        return Remedy(playbook=default.in_bake, why=f"the remedy for {cause} is {default.in_bake}, because {new}")
    return _by_former(incident, policy, facts, default.as_bad)


def _named(incident: Incident, named: str) -> Remedy:
    if named == NO_REMEDY:
        return Remedy(playbook=None, why=f"the policy has no remedy for {incident.cause}")
    return Remedy(playbook=named, why=f"the policy's remedy for {incident.cause} is {named}")


def _by_former(incident: Incident, policy: HealingPolicy, facts: Facts, as_bad: str) -> Remedy:
    if facts.return_to is None or rolled_back_lately(policy, facts, incident.asked_at):
        # without a version to return to, the rules about rollbacks escalate a fault
        name = RETRAIN if as_bad == RETRAIN else ROLLBACK
        why = f"the remedy for {incident.cause} is {name}, because no former version can return"
        return Remedy(playbook=name, why=why)
    return _after_replay(incident, facts, as_bad)


def _after_replay(incident: Incident, facts: Facts, as_bad: str) -> Remedy:
    run = replay_of(incident, facts)
    if run is None:
        return Remedy(playbook=REPLAY, why=f"first, version {facts.return_to} answers the rows of the incident")
    told = run.facts.get("compared") or f"the run {run.id} gave no result"
    match run.facts.get("former"):
        case Former.BETTER:
            return Remedy(playbook=ROLLBACK, why=f"the former version does better: {told}")
        case Former.AS_BAD:
            return Remedy(playbook=as_bad, why=f"the former version does no better: {told}")
        case _:
            return Remedy(playbook=NOTIFY, why=f"it is unknown whether the former version does better: {told}")


def replay_of(incident: Incident, facts: Facts) -> PlaybookRun | None:
    """Give the newest ended replay of the former version that answers the open question of *incident*, if any."""
    found = (
        run
        for run in reversed(counting(incident, facts))
        if run.playbook == REPLAY and run.state.over and run.state is not RunState.CANCELLED
    )
    return next(found, None)


def counting(incident: Incident, facts: Facts) -> tuple[PlaybookRun, ...]:
    """Give the runs for *incident* that were made for the question as it stands now, oldest first."""
    since = incident.reopened_at
    return tuple(run for run in facts.tried if since is None or run.created_at >= since or not run.state.over)


def is_new(policy: HealingPolicy, facts: Facts) -> bool:
    """Whether the version had been in production for less than the bake window when the question arose."""
    return facts.served_for is not None and facts.served_for < policy.bake


def rolled_back_lately(policy: HealingPolicy, facts: Facts, at: datetime) -> bool:
    """Whether a rollback by healing put the version into production less than the bake window before *at*."""
    placed = facts.placed_by_rollback
    return placed is not None and at < placed + max(policy.bake, policy.cooldown)
