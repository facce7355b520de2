"""Decide a stored look again, from the look and the policy alone."""

from __future__ import annotations

from dataclasses import dataclass

from mendel.healing.decision import decide
from mendel.healing.decision_records import DecisionRecord, recorded
from mendel.healing.entities import LookResult
from mendel.healing.look_judgement import judge_counters, judge_log
from mendel.healing.looks import DecidedIncident, Look, LookKind
from mendel.healing.policy import HealingPolicy
from mendel.registry import PolicyDocument
from mendel.values import to_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A look that is decided differently now than when it was stored, with both results as JSON."""

    look: str
    kind: LookKind
    model: str
    stored: str
    again: str


def judge_again(look: Look, document: PolicyDocument) -> LookResult | None:
    """Judge the facts of a check by the policy *document*; None for a decision."""
    if look.counters is not None:
        return judge_counters(look.counters, document, look.at)
    return None if look.log is None else judge_log(look.log, document, look.at)


def decide_again(decided: DecidedIncident, document: PolicyDocument) -> DecisionRecord:
    """Take the decision about the stored incident again under the policy *document*, at the same time."""
    was = decided.record
    return recorded(
        decide(decided.incident, HealingPolicy.of(document.body), decided.facts, was.at),
        decided.facts,
        record_id=was.id,
        incident=was.incident,
        at=was.at,
        run=was.run,
        evidence=was.evidence,
    )


def difference(look: Look, document: PolicyDocument) -> Difference | None:
    """Decide *look* again under *document*; None if the result is equal to the stored one."""
    stored = look.found if look.decided is None else look.decided.record
    again = judge_again(look, document) if look.decided is None else decide_again(look.decided, document)
    one, other = to_json(stored), to_json(again)
    if one == other:
        return None
    return Difference(look=look.id, kind=look.kind, model=str(look.model), stored=one.decode(), again=other.decode())
