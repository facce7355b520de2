"""Explain a stored decision: every measured value and every guard with its bound, and the rule that decided."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from mendel.drift import DriftReport, MonitoringPolicy, rejudge
from mendel.healing.decision import Rule
from mendel.healing.decision_facts import Facts
from mendel.healing.decision_records import Verdict
from mendel.healing.look_judgement import judge_quality, monitoring_of
from mendel.healing.looks import CounterFacts, DecidedIncident, LogFacts, Look
from mendel.healing.playbooks import Playbook
from mendel.healing.policy import HealingPolicy, Level
from mendel.healing.remedies import remedy_for
from mendel.registry import PolicyDocument, judge_performance
from mendel.values import Measured, Measurement, NotMeasured, VersionRef, render_duration

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """
    One comparison: ``name``: ``value`` ``relation`` ``bound``.

    Attributes:
        holds: Whether it holds; None if the value was not measured.
        rule: The rule of decisions that it belongs to; None for a measured value.
    """

    name: str
    value: str
    relation: str
    bound: str
    holds: bool | None
    rule: Rule | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """
    The arithmetic of one decision.

    Attributes:
        at, until: The decision was taken at ``at``, and again with the same result until ``until``.
        readings: What the checks before the decision measured, against the bounds of their policy.
        guards: The facts of the decision, in the order of the rules; what the remedy does not need is left out.
    """

    incident: str
    at: datetime
    until: datetime
    verdict: Verdict
    rule: Rule
    playbook: str | None
    reasons: tuple[str, ...]
    policy_version: int | None
    policy_hash: str
    playbook_hash: str | None
    readings: tuple[Comparison, ...]
    guards: tuple[Comparison, ...]


def explain(decided: Look, checks: Sequence[Look], document: PolicyDocument) -> Explanation:
    """
    Explain the look *decided*.

    Args:
        checks: The last checks before the decision; only those of the incident's version are shown.
        document: The policy of the decision.
    """
    inputs = decided.decided
    assert inputs is not None, "only looks about incidents are explained"  # noqa: S101 - a caller's mistake
    record = inputs.record
    return Explanation(
        incident=record.incident,
        at=decided.at,
        until=decided.until,
        verdict=record.verdict,
        rule=record.rule,
        playbook=record.playbook,
        reasons=record.reasons,
        policy_version=document.version if document.hash == record.policy_hash else None,
        policy_hash=record.policy_hash,
        playbook_hash=record.playbook_hash,
        readings=tuple(reading for check in checks for reading in _readings(check, inputs.incident.ref, document)),
        guards=tuple(_guards(inputs, HealingPolicy.of(document.body))),
    )


def _readings(check: Look, ref: VersionRef, document: PolicyDocument) -> Iterator[Comparison]:
    if check.counters is not None and check.found is not None and ref in {check.found.ref, check.found.canary}:
        yield from _of_counters(check.counters, document)
    if check.log is not None and check.log.ref == ref:
        yield from _of_log(check.log, document)


def _of_counters(facts: CounterFacts, document: PolicyDocument) -> Iterator[Comparison]:
    if facts.measured is not None:
        check = judge_performance(document.model, facts.measured, document)
        for one in check.evidence:
            measured = isinstance(one.measurement, Measured)
            yield Comparison(
                name=one.criterion.value,
                value=_told(one.measurement),
                relation=">",
                bound=f"{one.threshold:.6g}",
                holds=one.holds if measured else None,
            )
    within = HealingPolicy.of(document.body).converge_within
    for server in facts.servers:
        yield Comparison(
            name=f"{server.name} ({server.presence}): time without serving generation {facts.deployment.generation}",
            value=f"{server.lacking_s:.1f}s",
            relation=">",
            bound=f"{render_duration(within)} (healing.converge_within)",
            holds=server.lacking_s > within.total_seconds(),
        )


def _of_log(facts: LogFacts, document: PolicyDocument) -> Iterator[Comparison]:
    policy = monitoring_of(document)
    for report in facts.reports[-policy.confirm :]:
        yield _of_report(rejudge(report, policy), policy)
    reading = judge_quality(facts, document).reading
    worse = reading.threshold is not None
    yield Comparison(
        name=f"quality ({reading.metric})",
        value=_told(reading.value),
        relation="wholly worse than",
        bound=f"{reading.threshold:.6g}" if worse else "no reference and no floor",
        holds=reading.crossed,
    )


def _of_report(report: DriftReport, policy: MonitoringPolicy) -> Comparison:
    share = report.drift_share
    return Comparison(
        name=f"drifted share of the inputs, {report.window}",
        value=_told(share),
        relation=">=",
        bound=f"{policy.drift_share:.6g} in {policy.confirm} windows (monitoring.drift_share)",
        holds=report.drift_detected,
    )


def _guards(decided: DecidedIncident, policy: HealingPolicy) -> Iterator[Comparison]:
    facts, incident, playbook = decided.facts, decided.incident, decided.facts.playbook
    pause = facts.pause
    yield _guard(Rule.PAUSED, "pause", "none" if pause is None else f"by {pause.by}", "none", holds=pause is None)
    yield _guard(Rule.ESCALATED, "escalated", str(incident.escalated).lower(), "false", holds=not incident.escalated)
    remedy = remedy_for(incident, policy, facts)
    told = f"{remedy.playbook or 'none'} ({remedy.why})"
    name = f"remedy for {incident.cause}"
    yield _guard(Rule.NO_REMEDY, name, told, "a playbook", relation="is", holds=playbook is not None)
    if playbook is not None:
        for run in facts.tried:
            ended = run.state.unhelpful or not run.state.over
            yield _guard(Rule.DID_NOT_HELP, f"run {run.id}", run.state.value, "over without failure", holds=not ended)
        if playbook.autonomy == "rollback":
            least, placed = max(policy.bake, policy.cooldown), facts.placed_by_rollback
            name = "time from a rollback that placed the version to the incident"
            yield _age(Rule.FLAPPING, name, placed, least, incident.asked_at)
        yield from _guards_of(playbook, facts, policy, decided.record.at)


def _guards_of(playbook: Playbook, facts: Facts, policy: HealingPolicy, now: datetime) -> Iterator[Comparison]:
    if playbook.autonomy == "rollback":
        to = facts.return_to
        known = "none" if to is None else f"version {to}"
        yield _guard(
            Rule.NOTHING_TO_RETURN_TO, "former version", known, "a version", relation="is", holds=to is not None
        )
    level, needed = policy.autonomy.of(playbook.autonomy), Level(playbook.starts_under)
    name = f"autonomy.{playbook.autonomy}"
    yield _guard(Rule.AUTONOMY, name, level, needed, relation=">=", holds=level.rank >= needed.rank)
    running = [run.id for run in facts.runs if run.state.value == "running"]
    yield _guard(Rule.ACTIVE_RUN, "active runs", ", ".join(running) or "none", "none", holds=not running)
    if playbook.harmless:
        return
    acted = [run for run in facts.runs if run.started_at is not None and not run.document.harmless]
    if not playbook.urgent:
        ended = max((run.finished_at for run in acted if run.finished_at is not None), default=None)
        yield _age(Rule.COOLDOWN, "time since the last run ended", ended, policy.cooldown, now)
    alike = [run.started_at for run in acted if run.document.autonomy == playbook.autonomy]
    recent = sum(1 for started in alike if started is not None and started > now - _DAY)
    most = policy.max_runs_per_day
    yield _guard(
        Rule.RUNS_PER_DAY, f"runs with {name} in 24 hours", str(recent), f"{most} (healing.max_runs_per_day)",
        relation="<",
        holds=recent < most,
    )  # fmt: skip
    if playbook.autonomy == "retrain" and facts.supply is not None:
        supply = facts.supply
        yield _age(Rule.COOLDOWN, "time since the last change of version", facts.last_change, supply.cooldown, now)
        yield _guard(
            Rule.LABELS, "labelled rows", str(supply.have), str(supply.need), relation=">=",
            holds=supply.have >= supply.need,
        )  # fmt: skip
        yield _guard(
            Rule.LABELS, "share of rows with labels", f"{supply.coverage:.4g}", f"{supply.need_coverage:.4g}",
            relation=">=", holds=supply.coverage >= supply.need_coverage,
        )  # fmt: skip


def _age(rule: Rule, name: str, moment: datetime | None, least: timedelta, now: datetime) -> Comparison:
    age = None if moment is None else now - moment
    value = "never" if age is None else f"{age.total_seconds():.1f}s"
    return _guard(rule, name, value, render_duration(least), relation=">=", holds=age is None or age >= least)


def _guard(rule: Rule, name: str, value: str, bound: str, *, relation: str = "=", holds: bool) -> Comparison:
    return Comparison(name=name, value=value, relation=relation, bound=bound, holds=holds, rule=rule)


def _told(measurement: Measurement) -> str:
    match measurement:
        case NotMeasured():
            return f"not measured: {measurement}"
        case Measured(value=value, samples=samples, low=float(low), high=float(high)):
            return f"{value:.6g} [{low:.6g}, {high:.6g}] (n={samples})"
        case Measured(value=value, samples=samples):
            return f"{value:.6g} (n={samples})"
