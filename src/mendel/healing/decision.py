"""Decide what to do about an incident: pure functions with every guard."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from mendel.healing.decision_facts import Facts
from mendel.healing.entities import Incident
from mendel.healing.playbook_runs import PlaybookRun, RunState
from mendel.healing.playbooks import Playbook
from mendel.healing.policy import HealingPolicy, Level
from mendel.healing.remedies import counting, remedy_for, rolled_back_lately
from mendel.retraining import Waiting, may_start
from mendel.values import render_duration

_DAY = timedelta(days=1)
LOOKS = 3
"""The maximum number of runs of a playbook for one incident if the gates could not judge its candidate."""


class Rule(StrEnum):
    """The rule that made the decision."""

    REMEDY = "remedy"
    NO_REMEDY = "no_remedy"
    NO_EVIDENCE = "no_evidence"
    AUTONOMY = "autonomy"
    PAUSED = "paused"
    ESCALATED = "escalated"
    DID_NOT_HELP = "did_not_help"
    DECLINED = "declined"
    MENDED = "mended"
    NOTHING_TO_RETURN_TO = "nothing_to_return_to"
    ACTIVE_RUN = "active_run"
    PROPOSED = "proposed"
    COOLDOWN = "cooldown"
    FLAPPING = "flapping"
    RUNS_PER_DAY = "runs_per_day"
    LABELS = "labels"


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Start *playbook* now; ``preempts`` is the id of the run that is stopped for it."""

    playbook: str
    rule: Rule
    reasons: tuple[str, ...]
    policy_hash: str
    preempts: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Propose:
    """Ask a person to start *playbook*."""

    playbook: str
    rule: Rule
    reasons: tuple[str, ...]
    policy_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observe:
    """Take no action; ``escalate`` asks a person to act, because healing has no further remedy."""

    rule: Rule
    reasons: tuple[str, ...]
    policy_hash: str
    escalate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Do nothing yet; ``until`` is the end of the wait, or None if a change ends it and not a time."""

    until: datetime | None
    rule: Rule
    reasons: tuple[str, ...]
    policy_hash: str


Decision = Act | Propose | Observe | Wait


def decide(incident: Incident, policy: HealingPolicy, facts: Facts, now: datetime) -> Decision:
    """
    Decide what to do about *incident*.

    :func:`remedy_for` chooses the playbook. The first applicable rule decides, in this order: healing is paused; the
    incident is escalated; a change whose effect is not measured yet; no remedy; earlier runs for the incident; no
    evidence against the version; a rollback that did not help; no version to roll back to; autonomy; another run of the
    model; and last the reasons to wait (cooldown, runs per day, labels). The reasons of a decision to act name the
    evidence.

    Args:
        facts: Its playbook is the one that :func:`remedy_for` chooses.
    """
    if facts.pause is not None:
        why = f"healing is paused by {facts.pause.by} since {facts.pause.at.isoformat()}: {facts.pause.reason}"
        return Wait(until=None, rule=Rule.PAUSED, reasons=(why,), policy_hash=facts.policy_hash)
    if incident.escalated:
        return _observe(facts, Rule.ESCALATED, "the incident was escalated, so a person must decide")
    if incident.unmeasured_since is not None:
        since = incident.unmeasured_since.isoformat(timespec="seconds")
        return _observe(facts, Rule.MENDED, f"the effect of the change of {since} has not been measured yet")
    remedy = remedy_for(incident, policy, facts)
    if facts.playbook is None:
        why = remedy.why if remedy.playbook is None else f"the policy's remedy {remedy.playbook} is not a playbook"
        return _observe(facts, Rule.NO_REMEDY, why, escalate=remedy.playbook is not None)
    return _with_playbook(incident, policy, facts, facts.playbook, now, why=remedy.why)


def _with_playbook(
    incident: Incident, policy: HealingPolicy, facts: Facts, playbook: Playbook, now: datetime, *, why: str
) -> Decision:
    settled = _settled_before(incident, facts, playbook) or _impossible(incident, policy, facts, playbook)
    if settled is not None:
        return settled
    level = policy.autonomy.of(playbook.autonomy)
    if level.rank < _least_level(playbook).rank:
        told = f"the policy sets autonomy.{playbook.autonomy} to {level}"
        if level is Level.OBSERVE:
            return _observe(facts, Rule.AUTONOMY, told)
        return Propose(
            playbook=playbook.name,
            rule=Rule.AUTONOMY,
            reasons=(told, why, *incident.context.reasons),
            policy_hash=facts.policy_hash,
        )
    running = next((run for run in facts.runs if run.state is RunState.RUNNING), None)
    if running is not None and not _preempts(playbook, running, incident):
        return _wait(
            facts, Rule.ACTIVE_RUN, None, f"the run {running.id} ({running.playbook}) of the same model is active"
        )
    if (waiting := next(_waits(policy, facts, playbook, now), None)) is not None:
        return waiting
    return Act(
        playbook=playbook.name,
        rule=Rule.REMEDY,
        reasons=(why, *incident.context.reasons),
        policy_hash=facts.policy_hash,
        preempts=running.id if running is not None else None,
    )


def _least_level(playbook: Playbook) -> Level:
    """Give the lowest level under which the playbook starts; ``observe`` only for a playbook that changes nothing."""
    least = Level(playbook.starts_under)
    return Level.PROPOSE if least is Level.OBSERVE and not playbook.harmless else least


def _preempts(playbook: Playbook, running: PlaybookRun, incident: Incident) -> bool:
    """
    Whether the active run is stopped for *playbook*.

    A rollback stops every run except another rollback. The replay of the former version stops a training only for a
    fault of the version, and not for a change of the data.
    """
    if playbook.harmless:
        return playbook.urgent and not running.document.urgent and incident.cause.family == "version"
    return playbook.urgent and (running.document.harmless or not running.document.urgent)


def _settled_before(incident: Incident, facts: Facts, playbook: Playbook) -> Decision | None:
    tried = counting(incident, facts)
    for run in tried:
        if run.playbook != playbook.name:
            continue
        if run.state.unhelpful:
            why = f"the run {run.id} of {playbook.name} did not help ({run.state})"
            return _observe(facts, Rule.DID_NOT_HELP, why, escalate=True)
        if run.state in {RunState.PROPOSED, RunState.HELD}:
            return _wait(
                facts, Rule.PROPOSED, None, f"the run {run.id} ({playbook.name}) waits for {run.held_for or 'approval'}"
            )
        if run.state is RunState.DECLINED:
            return _observe(facts, Rule.DECLINED, f"the run {run.id} ({playbook.name}) was declined")
        if run.state is RunState.SUCCEEDED:
            return _observe(facts, Rule.MENDED, f"the run {run.id} ({playbook.name}) has finished")
    undecided = [run.id for run in tried if run.state is RunState.UNDECIDED and run.playbook == playbook.name]
    if len(undecided) >= LOOKS:
        why = f"{len(undecided)} runs of {playbook.name} ended undecided, because the gates had too little evidence"
        return _observe(facts, Rule.DID_NOT_HELP, why, escalate=True)
    return None


def _impossible(incident: Incident, policy: HealingPolicy, facts: Facts, playbook: Playbook) -> Decision | None:
    if playbook.autonomy == "rollback" and incident.cause.family == "servers":
        why = f"no server showed that {incident.ref} is at fault, so {playbook.name} is not started"
        return _observe(facts, Rule.NO_EVIDENCE, why)
    returns = playbook.autonomy == "rollback" and incident.cause.family != "canary"
    if returns and rolled_back_lately(policy, facts, incident.asked_at):
        why = f"a rollback by healing returned {incident.ref} to production; healing does not go back further"
        return _observe(facts, Rule.FLAPPING, why, escalate=True)
    if returns and facts.return_to is None:
        return _observe(
            facts,
            Rule.NOTHING_TO_RETURN_TO,
            "the model has no former production version to roll back to",
            escalate=True,
        )
    return None


def _waits(policy: HealingPolicy, facts: Facts, playbook: Playbook, now: datetime) -> Iterator[Wait]:
    """Yield every reason to wait before acting, in the order of the rules."""
    if playbook.harmless:
        return
    acted = [run for run in facts.runs if run.started_at is not None and not run.document.harmless]
    if not playbook.urgent:
        ended = [run.finished_at for run in acted if run.finished_at is not None]
        if ended and now < (until := max(ended) + policy.cooldown):
            why = f"the last run ended less than {render_duration(policy.cooldown)} ago (healing.cooldown)"
            yield _wait(facts, Rule.COOLDOWN, until, why)
    alike = [run.started_at for run in acted if run.document.autonomy == playbook.autonomy]
    recent = sorted(started for started in alike if started is not None and started > now - _DAY)
    if len(recent) >= policy.max_runs_per_day:
        free = recent[-policy.max_runs_per_day] + _DAY if policy.max_runs_per_day else None
        told = f"{len(recent)} runs with autonomy.{playbook.autonomy} started in the last 24 hours"
        why = f"{told}; healing.max_runs_per_day is {policy.max_runs_per_day}"
        yield _wait(facts, Rule.RUNS_PER_DAY, free, why)
    if playbook.autonomy == "retrain" and facts.supply is None:
        yield _wait(facts, Rule.LABELS, None, "the labels have not been counted yet")
    elif playbook.autonomy == "retrain" and facts.supply is not None:
        cooldown = facts.supply.cooldown
        if facts.last_change is not None and now < (until := facts.last_change + cooldown):
            why = f"the last promotion or rollback was less than {render_duration(cooldown)} ago (gates.cooldown)"
            yield _wait(facts, Rule.COOLDOWN, until, why)
        if isinstance(missing := may_start(facts.supply), Waiting):
            yield _wait(facts, Rule.LABELS, None, missing.why)


def _observe(facts: Facts, rule: Rule, why: str, *, escalate: bool = False) -> Observe:
    return Observe(rule=rule, reasons=(why,), policy_hash=facts.policy_hash, escalate=escalate)


def _wait(facts: Facts, rule: Rule, until: datetime | None, why: str) -> Wait:
    return Wait(until=until, rule=rule, reasons=(why,), policy_hash=facts.policy_hash)
