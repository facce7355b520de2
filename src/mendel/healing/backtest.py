"""Backtest: decide recorded time again, under the recorded policies or under another policy and other playbooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from mendel.healing.decision_records import DecisionRecord, Verdict
from mendel.healing.entities import Cause
from mendel.healing.look_judgement import monitoring_of
from mendel.healing.look_replay import Difference, difference
from mendel.healing.looks import LOOK_SCHEMA, Look
from mendel.healing.playbooks import Playbook
from mendel.healing.policy import HealingPolicy
from mendel.healing.simulation import Simulation
from mendel.registry import Criterion, PolicyDocument, judge_performance
from mendel.values import Measurement, ModelName, NotMeasured, VersionRef

_MEASURING: Final[Mapping[str, tuple[str, ...]]] = {
    "rollback": ("window", "silence"),
    "monitoring": (
        *("every", "lookback", "min_rows", "confirm", "reference", "target", "task", "positive_label"),
        *("features", "segments"),
    ),
}
"""Keys of a policy that change what is measured, not how it is judged."""
_TRAINING: Final = ("gates", "retraining")
"""Sections that only matter in a retraining, which a backtest does not repeat."""
_MOST_DIFFERENCES = 100
_NO_LATER_LOOK = NotMeasured(reason="no later check was recorded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Afterwards:
    """
    The errors and the quality that were recorded after an action, or after the time of one that was not taken.

    Attributes:
        due: The time of the action plus ``healing.effect_within``.
        version: The version in production then; None if nothing was recorded.
        error_rate: The share of failed requests in the first check at or after ``due``.
        quality: The primary metric in the first study of the prediction log at or after ``due``.
    """

    due: datetime
    version: VersionRef | None = None
    error_rate: Measurement = _NO_LATER_LOOK
    quality: Measurement = _NO_LATER_LOOK
    metric: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BacktestAction:
    """
    An action: act, propose, or escalate (``observe``).

    Attributes:
        otherwise: For a recorded action, what the other policy would have decided then; for an action under the other
            policy, whether the recording has it too.
    """

    at: datetime
    ref: VersionRef
    cause: Cause
    verdict: Verdict
    playbook: str | None
    rule: str
    reasons: tuple[str, ...]
    policy_hash: str
    afterwards: Afterwards
    otherwise: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backtest:
    """
    The result of a backtest.

    Attributes:
        looks: The looks that were decided again, each under its own policy.
        equal: How many of them gave the stored result.
        differences: Those that did not, at most 100.
        unreadable: Looks that another version of Mendel stored in a form that this version cannot decide again.
        unknown_policies: Looks whose policy is not stored any more.
        recorded: What healing did.
        simulated: What healing would have done under the other policy and playbooks; None without them.
        not_applied: Keys and sections of the other policy that differ from a recorded policy but have no effect here.
    """

    since: datetime
    until: datetime | None
    looks: int
    equal: int
    differences: tuple[Difference, ...]
    unreadable: int
    unknown_policies: int
    recorded: tuple[BacktestAction, ...]
    simulated: tuple[BacktestAction, ...] | None
    not_applied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Another policy (the body of its document; None keeps the recorded policies), and the playbooks."""

    policy: dict[str, Any] | None
    playbooks: Mapping[str, Playbook]

    def document(self, recorded: PolicyDocument) -> PolicyDocument:
        """The policy that is used instead of *recorded*."""
        return recorded if self.policy is None else PolicyDocument(model=recorded.model, body=self.policy)


def run_backtest(
    looks: Iterable[Look],
    policy_of: Callable[[ModelName, str], PolicyDocument | None],
    alternative: Alternative | None,
    *,
    since: datetime,
) -> Backtest:
    """
    Decide *looks*, oldest first, again.

    Args:
        policy_of: Finds the policy of a model with a hash.
        alternative: The other policy and playbooks; None only checks that the recorded decisions are reproduced.
    """
    replay = _Replay(alternative)
    for look in looks:
        replay.add(look, policy_of(look.model, look.policy_hash))
    return Backtest(
        since=since,
        until=replay.until,
        looks=replay.looks,
        equal=replay.looks - replay.differing,
        differences=tuple(replay.differences),
        unreadable=replay.unreadable,
        unknown_policies=replay.unknown,
        recorded=tuple(replay.done),
        simulated=None if alternative is None else tuple(_compared(replay.simulated, replay.done)),
        not_applied=tuple(sorted(replay.not_applied)),
    )


@dataclass(slots=True)
class _Replay:
    alternative: Alternative | None
    until: datetime | None = None
    looks: int = 0
    unreadable: int = 0
    unknown: int = 0
    differing: int = 0
    differences: list[Difference] = field(default_factory=list)
    done: list[BacktestAction] = field(default_factory=list)
    simulated: list[BacktestAction] = field(default_factory=list)
    not_applied: set[str] = field(default_factory=set)
    _simulations: dict[ModelName, Simulation] = field(default_factory=dict)

    def add(self, look: Look, document: PolicyDocument | None) -> None:
        self.until = look.until if self.until is None else max(self.until, look.until)
        if look.schema != LOOK_SCHEMA:
            self.unreadable += 1
            return
        if document is None:
            self.unknown += 1
            return
        self.looks += 1
        if (found := difference(look, document)) is not None:
            self.differing += 1
            self.differences = [*self.differences, found][:_MOST_DIFFERENCES]
        self.done = [_followed(action, look, document) for action in self.done]
        self.simulated = [_followed(action, look, document) for action in self.simulated]
        if self.alternative is not None:
            self._simulate(look, document, self.alternative)
        self._record(look, document)

    def _record(self, look: Look, document: PolicyDocument) -> None:
        decided = look.decided
        if decided is None or decided.record.verdict not in {Verdict.ACT, Verdict.PROPOSE}:
            return
        ref, cause = decided.incident.ref, decided.incident.cause
        action = _action(decided.record, ref, cause, document)
        if self.alternative is not None:
            instead = self._simulations[look.model].decision_about(ref, cause)
            action = replace(action, otherwise=_told(instead))
        self.done.append(action)

    def _simulate(self, look: Look, document: PolicyDocument, alternative: Alternative) -> None:
        other = alternative.document(document)
        self.not_applied |= set(_not_applied(document, other))
        simulation = self._simulations.setdefault(look.model, Simulation(alternative.playbooks))
        for one in simulation.see(look, other):
            self.simulated.append(_action(one.record, one.incident.ref, one.incident.cause, other))


def _action(record: DecisionRecord, ref: VersionRef, cause: Cause, document: PolicyDocument) -> BacktestAction:
    return BacktestAction(
        at=record.at,
        ref=ref,
        cause=cause,
        verdict=record.verdict,
        playbook=record.playbook,
        rule=record.rule,
        reasons=record.reasons,
        policy_hash=record.policy_hash,
        afterwards=Afterwards(due=record.at + HealingPolicy.of(document.body).effect_within),
    )


def _followed(action: BacktestAction, look: Look, document: PolicyDocument) -> BacktestAction:
    """Add what *look* measured, if it is the first of its kind that held when the effect of *action* was due."""
    after = action.afterwards
    if look.model != action.ref.model or look.until < after.due:
        return action
    if look.counters is not None and after.error_rate is _NO_LATER_LOOK and look.counters.measured is not None:
        check = judge_performance(look.model, look.counters.measured, document)
        rate = next(one.measurement for one in check.evidence if one.criterion is Criterion.ERROR_RATE)
        version = VersionRef(look.model, look.counters.measured.version)
        return replace(action, afterwards=replace(after, error_rate=rate, version=version))
    if look.log is not None and after.quality is _NO_LATER_LOOK:
        metric = monitoring_of(document).metric
        missing = NotMeasured(reason="no labelled prediction")
        quality = missing if look.log.current is None else look.log.current[metric]
        return replace(action, afterwards=replace(after, quality=quality, metric=metric))
    return action


def _compared(simulated: Iterable[BacktestAction], done: Iterable[BacktestAction]) -> Iterable[BacktestAction]:
    known = {(one.ref, one.playbook, one.verdict): one.at for one in done}
    for one in simulated:
        at = known.get((one.ref, one.playbook, one.verdict))
        yield replace(one, otherwise="not recorded" if at is None else f"recorded at {at.isoformat()}")


def _told(record: DecisionRecord | None) -> str:
    if record is None:
        return "nothing: no incident would be open"
    return f"{record.verdict}{f' {record.playbook}' if record.playbook else ''}: {'; '.join(record.reasons)}"


def _not_applied(recorded: PolicyDocument, other: PolicyDocument) -> Iterable[str]:
    sections: dict[str, tuple[object, object]] = {
        "rollback": (recorded.rollback, other.rollback),
        "monitoring": (monitoring_of(recorded), monitoring_of(other)),
    }
    for section, names in _MEASURING.items():
        one, two = sections[section]
        yield from (f"{section}.{name}" for name in names if getattr(one, name) != getattr(two, name))
    yield from (name for name in _TRAINING if recorded.section(name) != other.section(name))
