"""Decisions as they are kept: one flat noun for all four."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from mendel.healing.decision import Act, Decision, Observe, Propose, Rule, Wait


class Verdict(StrEnum):
    """Which of the four a decision is."""

    ACT = "act"
    PROPOSE = "propose"
    OBSERVE = "observe"
    WAIT = "wait"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """
    A decision with what it was about and what it rested on.

    Attributes:
        run: The run it made, started (act) or proposed.
        evidence: Digests and readings it cites.
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

    def same_as(self, other: DecisionRecord | None) -> bool:
        """Whether it says what *other* said, so that it need not be said again; counts in reasons may differ."""
        return other is not None and _gist(self) == _gist(other)


def _gist(record: DecisionRecord) -> tuple[object, ...]:
    return record.verdict, record.rule, record.playbook, record.until, record.policy_hash


def recorded(
    decision: Decision, *, record_id: str, incident: str, at: datetime, run: str | None, evidence: tuple[str, ...]
) -> DecisionRecord:
    """The record of *decision*."""
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
    )
