"""Stored decisions: one flat record for act, propose, observe and wait."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from mendel.healing.decision import Act, Decision, Observe, Propose, Rule, Wait
from mendel.healing.decision_facts import Facts


class Verdict(StrEnum):
    """The kind of a decision."""

    ACT = "act"
    PROPOSE = "propose"
    OBSERVE = "observe"
    WAIT = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """
    A stored decision with its incident and its evidence.

    Attributes:
        playbook_hash: The hash of the playbook that was decided about, also where the decision starts none.
        run: Id of the run that the decision started (act) or proposed.
        evidence: Digests and readings that the decision cites.
    """

    id: str
    incident: str
    at: datetime
    verdict: Verdict
    rule: Rule
    reasons: tuple[str, ...]
    policy_hash: str
    playbook: str | None = None
    until: datetime | None = None
    run: str | None = None
    evidence: tuple[str, ...] = ()
    playbook_hash: str | None = None

    def same_as(self, other: DecisionRecord | None) -> bool:
        """Whether both records differ only in numbers within the reasons, so that this record need not be stored."""
        return other is not None and _gist(self) == _gist(other)


def _gist(record: DecisionRecord) -> tuple[object, ...]:
    return record.verdict, record.rule, record.playbook, record.until, record.policy_hash


def recorded(
    decision: Decision,
    facts: Facts,
    *,
    record_id: str,
    incident: str,
    at: datetime,
    run: str | None,
    evidence: tuple[str, ...],
) -> DecisionRecord:
    """Make the stored record of *decision*, which was taken from *facts*."""
    verdicts = {Act: Verdict.ACT, Propose: Verdict.PROPOSE, Observe: Verdict.OBSERVE, Wait: Verdict.WAIT}
    return DecisionRecord(
        id=record_id,
        incident=incident,
        at=at,
        verdict=verdicts[type(decision)],
        rule=decision.rule,
        reasons=decision.reasons,
        policy_hash=decision.policy_hash,
        playbook=decision.playbook if isinstance(decision, Act | Propose) else None,
        until=decision.until if isinstance(decision, Wait) else None,
        run=run,
        evidence=evidence,
        playbook_hash=None if facts.playbook is None else facts.playbook.hash,
    )
