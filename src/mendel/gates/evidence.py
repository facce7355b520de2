"""The evidence for a judgement: evaluation rows, facts about the run, and the numbers computed from both."""

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
    """The reason why the candidate was trained."""

    DRIFT = "drift"
    QUALITY = "quality"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """
    The answers of one version to the evaluation rows; ``probabilities`` by class, or None if the model gives none.
    """

    outputs: NDArray[Any]
    probabilities: Mapping[str, NDArray[np.float64]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """
    The evidence about a candidate.

    Candidate and production version answer the same rows, which are all later than the candidate's training rows.

    Args:
        task: The kind of the model's answer: a class or a number.
        metric: The primary metric.
        positive: The positive class, as in :meth:`mendel.drift.LabelledOutcomes.classification`.
        labels: The true outcome of each row; None or NaN without a label.
        candidate: The candidate's answers to these rows.
        production: The production version's answers to the same rows; None for a first deployment.
        segments: Masks over the rows by segment name, from :func:`automatic_segments`.
        window_rows: The number of predictions in the evaluation window, labelled or not.
        training_rows: The number of rows that the candidate was trained on.
        cause: The reason for the training run.
        schema_violations: The violations of the version's schema; None when the rows were not checked.
        since_change: The time from the model's last promotion or rollback to the start of the run; None without either.
        candidate_latencies_ms: The candidate's p95 latency of single-row calls per timing round.
            ``production_latencies_ms`` is from the same rounds. Empty when not timed.
        candidate_bytes: The size of the candidate's artefact; ``production_bytes`` is the production version's.
        budget_bytes: The memory in which servers can load the candidate beside the running version; None without a
            limit.
        looks_spent: How often this candidate was judged before.
        alpha_spent: The part of the policy's alpha that earlier candidates in the same cooldown used.
        planned_rows: The evaluation size if stated before the run; None computes it from the rows.
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
            raise ShapeMismatch(f"The evidence has {rows} labels, but another number of answers or segment values.")
        if self.window_rows < 0 or self.looks_spent < 0 or self.alpha_spent < 0:
            raise InvalidValue("window_rows, looks_spent and alpha_spent must not be below 0.")

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Give a mask of the rows that have a label."""
        return _present(self.labels)

    def outcomes(self) -> tuple[LabelledOutcomes, LabelledOutcomes | None]:
        """
        Pair the labels with the answers of the candidate and of production; None for production in a first deployment.

        Raises:
            InvalidValue: A labelled row has no answer of a version.
        """
        known = self.labelled
        classes = self._classes() if self.task is Task.CLASSIFICATION else ()
        candidate = self._outcomes("candidate", self.candidate, known, classes)
        if self.production is None:
            return candidate, None
        return candidate, self._outcomes("production version", self.production, known, classes)

    def _classes(self) -> tuple[object, ...]:
        """Give the classes of both versions, so that both are scored over the same classes."""
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
            raise InvalidValue(f"The {who} gave no answer for {len(labels) - len(found)} labelled rows.")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentFinding:
    """The relative gain in one segment; its upper bound holds for all segments together (Holm 1979)."""

    name: str
    gain: Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorFinding:
    """
    The score of a first deployment and the worst tolerated score; ``score.low`` and ``high`` are bounds at level alpha.
    """

    metric: str
    score: Measurement
    floor: float
    higher_is_better: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """
    The numbers that the gates compare with bounds: computed by :func:`measure`, or set by a test.

    Args:
        gain: The relative gain in the primary metric over production, positive when better; ``low`` and ``high`` are
            one-sided bounds at level ``alpha``.
        planned_rows: The number of rows needed to find the policy's gain with the policy's power; None if unknown.
        look: The number of this judgement of the candidate, from 1.
        alpha: The significance level of this look; 0 when none is left.
        calibration: The increase of the Brier score.
        probabilities_expected: Whether a version gives probabilities; then an unmeasured calibration is binding.
        candidate_latency_ms: The p95 latency of single-row calls in ms, the median over the timing rounds.
            ``production_latency_ms`` likewise.
        latency_ratio: The candidate's p95 divided by production's; ``low`` and ``high`` are one-sided 99 % bounds.
        agreement: The share of rows for which both versions decide the same.
        floor: The score and floor of a first deployment, which has no gain; None otherwise.
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
