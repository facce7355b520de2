"""What a judgement is made from: rows, facts, and the numbers that follow from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mendel.drift import LabelledOutcomes, Task
from mendel.errors import InvalidValue, ShapeMismatch
from mendel.values import Measurement


class RunCause(StrEnum):
    """Why the candidate was made."""

    DRIFT = "drift"
    QUALITY = "quality"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """What one version answered, row by row; ``probabilities`` by class, None where it gives none."""

    outputs: NDArray[Any]
    probabilities: Mapping[str, NDArray[np.float64]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """
    What is known of a candidate.

    Candidate and production are replayed on the same rows, all of them later than any row of the candidate's training.

    Args:
        task: What the model answers.
        metric: The primary metric.
        positive: The positive class, as in :meth:`mendel.drift.LabelledOutcomes.classification`.
        labels: The truth of each row; None or NaN where it has not arrived.
        candidate: Its answers to these rows.
        production: Production's answers to the same rows; None for a first deployment.
        segments: Masks over the rows, by name: what :func:`automatic_segments` makes of the features.
        window_rows: Predictions in the window that the rows are from, labelled or not.
        training_rows: Rows the candidate was trained on.
        cause: Why it was made.
        schema_violations: What is wrong with the rows by the version's schema; None when nobody has looked.
        since_change: Time from the model's last promotion or rollback to the start of the run; None if there was none.
        candidate_latencies_ms: p95 of one row asked alone, in each round of timing; likewise production's in the same
            rounds. Empty when not timed.
        candidate_bytes: Size of its artefact; likewise production's.
        budget_bytes: What servers can load beside the running version; None when unbounded.
        looks_spent: How often this candidate has been judged before.
        alpha_spent: What earlier candidates of the same cooldown have spent of the policy's alpha.
        planned_rows: The evaluation size, where it was stated before; else it follows from the rows.
    """

    task: Task = Task.CLASSIFICATION
    metric: str = "f1"
    positive: object = None
    labels: NDArray[Any]
    candidate: Answers
    production: Answers | None
    segments: Mapping[str, NDArray[np.bool_]]
    window_rows: int
    training_rows: int | None = None
    cause: RunCause = RunCause.MANUAL
    schema_violations: tuple[str, ...] | None = None
    since_change: timedelta | None = None
    candidate_latencies_ms: Sequence[float] = ()
    production_latencies_ms: Sequence[float] = ()
    candidate_bytes: int | None = None
    production_bytes: int | None = None
    budget_bytes: int | None = None
    looks_spent: int = 0
    alpha_spent: float = 0.0
    planned_rows: int | None = None

    def __post_init__(self) -> None:
        rows = len(self.labels)
        columns = [self.candidate.outputs, *self.segments.values()]
        if self.production is not None:
            columns.append(self.production.outputs)
        if any(len(column) != rows for column in columns):
            raise ShapeMismatch(f"There are {rows} labels; answers and segments need as many.")
        if self.window_rows < 0 or self.looks_spent < 0 or self.alpha_spent < 0:
            raise InvalidValue("Rows, looks and spent alpha are not below 0.")

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Which rows have a label."""
        return _present(self.labels)

    def outcomes(self) -> tuple[LabelledOutcomes, LabelledOutcomes | None]:
        """
        The labelled rows with the answers of the candidate and of production.

        Raises:
            InvalidValue: A version left a labelled row without an answer.
        """
        known = self.labelled
        classes = self._classes() if self.task is Task.CLASSIFICATION else ()
        candidate = self._outcomes("candidate", self.candidate, known, classes)
        if self.production is None:
            return candidate, None
        return candidate, self._outcomes("production version", self.production, known, classes)

    def _classes(self) -> tuple[object, ...]:
        """Every class that either version knows of, so that both are scored over the same ones."""
        versions = [self.candidate] if self.production is None else [self.candidate, self.production]
        outputs = [np.unique(v.outputs.astype(str) if v.outputs.dtype == object else v.outputs) for v in versions]
        return tuple(value for column in outputs for value in column.tolist())

    def _outcomes(
        self, who: str, answers: Answers, known: NDArray[np.bool_], classes: tuple[object, ...]
    ) -> LabelledOutcomes:
        labels, outputs = self.labels[known], answers.outputs[known]
        if self.task is Task.REGRESSION:
            found = LabelledOutcomes.regression(labels, outputs)
        else:
            scores = {name: column[known] for name, column in (answers.probabilities or {}).items()}
            found = LabelledOutcomes.classification(labels, outputs, scores, classes=classes, positive=self.positive)
        if len(found) < len(labels):
            raise InvalidValue(f"The {who} left {len(labels) - len(found)} labelled rows without an answer.")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentFinding:
    """The relative gain in one segment; ``high`` is its upper bound, simultaneous over all segments (Holm 1979)."""

    name: str
    gain: Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorFinding:
    """How a first deployment stands to the worst that is tolerated: ``score.low`` and ``high`` bound it at alpha."""

    metric: str
    score: Measurement
    floor: float
    higher_is_better: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """
    The numbers a judgement is made from: what :func:`measure` computes, or a test sets.

    Args:
        gain: Relative gain of the primary metric over production's, positive when better; ``low`` and ``high`` bound
            it at ``alpha`` each.
        planned_rows: Rows at which a gain of the policy's size is found with the policy's power; None if unknown.
        look: Which look at this candidate this is, from 1.
        alpha: What this look may spend; 0 when nothing is left.
        calibration: Increase of the Brier score.
        probabilities_expected: Whether a version gives probabilities, so that an unmeasured calibration counts.
        candidate_latency_ms: p95 of one row asked alone, the median over the rounds of timing; likewise production's.
        latency_ratio: The candidate's p95 over production's; ``low`` and ``high`` bound it at 99 % each.
        agreement: Share of unchanged decisions.
        floor: Set for a first deployment, which has no gain.
    """

    task: Task = Task.CLASSIFICATION
    metric: str = "f1"
    cause: RunCause = RunCause.MANUAL
    schema_violations: tuple[str, ...] | None
    samples: int
    coverage: Measurement
    since_change: timedelta | None
    candidate_score: Measurement
    production_score: Measurement
    gain: Measurement
    planned_rows: int | None = None
    look: int = 1
    alpha: float
    calibration: Measurement
    probabilities_expected: bool = True
    candidate_latency_ms: Measurement
    production_latency_ms: Measurement
    latency_ratio: Measurement
    candidate_bytes: int | None
    production_bytes: int | None
    budget_bytes: int | None = None
    segments: tuple[SegmentFinding, ...]
    agreement: Measurement
    floor: FloorFinding | None = None
    training_rows: int | None = None


def _present(labels: NDArray[Any]) -> NDArray[np.bool_]:
    if labels.dtype == object:
        return np.array([v is not None and not (isinstance(v, float) and np.isnan(v)) for v in labels], dtype=np.bool_)
    return ~np.isnan(labels) if labels.dtype.kind == "f" else np.ones(len(labels), dtype=np.bool_)
