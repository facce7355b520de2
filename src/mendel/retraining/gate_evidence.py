"""Make the gates' evidence from the replays of candidate and production."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from mendel.gates import Answers, Evidence, RunCause, automatic_segments
from mendel.registry import GateRecord, ProductionPeriod
from mendel.retraining.entities import Collected, Replays
from mendel.retraining.training_data import Policies, schema_violations
from mendel.values import Signature, Table

_PROBABILITY = "proba."


def evidence_of(
    rows: Table,
    answers: tuple[Table, Table],
    replays: Replays,
    collected: Collected,
    policies: Policies,
    *,
    signature: Signature,
    cause: RunCause,
    since_change: timedelta | None,
    alpha_spent: float,
) -> Evidence:
    """
    Make the evidence about the candidate.

    Args:
        rows: The evaluation rows, with the target.
        answers: The answers of the candidate and of production, in the order of *rows*.
        signature: The candidate's signature.
    """
    candidate, production = (answers_of(table) for table in answers)
    cuts = policies.monitoring.segments
    return Evidence(
        task=policies.monitoring.task,
        metric=policies.monitoring.metric,
        positive=policies.monitoring.positive_label,
        labels=rows[policies.target],
        candidate=candidate,
        production=production,
        segments=automatic_segments(rows.without(policies.target), cuts or None),
        window_rows=collected.answered,
        training_rows=collected.base_rows + collected.recent_rows,
        cause=cause,
        schema_violations=schema_violations(rows, signature),
        since_change=since_change,
        candidate_latencies_ms=replays.candidate.latencies_ms,
        production_latencies_ms=replays.production.latencies_ms,
        candidate_bytes=replays.candidate.artifact_bytes,
        production_bytes=replays.production.artifact_bytes,
        alpha_spent=alpha_spent,
    )


def last_change(tenures: Sequence[ProductionPeriod]) -> datetime | None:
    """Give when the version in production last changed; None if no version was ever in production."""
    return max((tenure.end or tenure.start for tenure in tenures), default=None)


def spent_alpha(records: Sequence[GateRecord], *, after: datetime) -> float:
    """
    Sum the alpha that the gate records after *after* used; all candidates in one cooldown share the policy's alpha.
    """
    return sum(float(record.body.get("alpha", 0.0)) for record in records if record.at > after)


def seed_of(collected: Collected) -> np.random.Generator:
    """
    Make a random generator from the training rows' fingerprint, so that repeating a judgement gives the same result.
    """
    return np.random.default_rng(int(collected.fingerprint.hex[:16], 16))


def answers_of(table: Table) -> Answers:
    """Convert the predictions of a replay to answers for the gates."""
    probabilities = {
        name.removeprefix(_PROBABILITY): table[name] for name in table.names if name.startswith(_PROBABILITY)
    }
    return Answers(outputs=table["prediction"], probabilities=probabilities or None)
