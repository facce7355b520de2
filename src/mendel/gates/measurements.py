"""Compute from the evidence the numbers that the gates compare with bounds."""

from __future__ import annotations

import numpy as np

from mendel.drift import METRICS, LabelledOutcomes, Metric, Task, bootstrap, metric
from mendel.errors import InvalidPolicy
from mendel.gates.evidence import Evidence, Findings, FloorFinding
from mendel.gates.latencies import latency_ratio, median_ms
from mendel.gates.paired_comparison import DRAWS, Pair, overall_gain, score, segment_gains
from mendel.gates.policy import Bounds
from mendel.values import Measured, Measurement, NotMeasured

_SPENDING = (0.5, 0.25, 0.25)
_FIRST = NotMeasured(reason="the model has no production version")


def measure(evidence: Evidence, bounds: Bounds, rng: np.random.Generator) -> Findings:
    """
    Compute every number of a judgement.

    Args:
        evidence: The evaluation rows and the facts about the run.
        bounds: The policy's bounds, including alpha and the smallest segment.
        rng: The random generator for the paired bootstrap.

    Raises:
        InvalidPolicy: The primary metric is unknown or does not fit the task.
        InvalidValue: A labelled row has no answer of a version.
    """
    chosen = metric(evidence.metric)
    if chosen.task is not evidence.task:
        raise InvalidPolicy(f"{chosen.name} is a metric of {chosen.task}, but the model's task is {evidence.task}.")
    candidate, production = evidence.outcomes()
    pair = None if production is None else Pair(metric=chosen, candidate=candidate, production=production)
    look = evidence.looks_spent + 1
    alpha = look_alpha(bounds, look=look, spent=evidence.alpha_spent)
    gain, planned = (_FIRST, None) if pair is None else overall_gain(pair, bounds, alpha, rng)
    masks = {name: mask[evidence.labelled] for name, mask in evidence.segments.items()}
    return Findings(
        task=evidence.task,
        metric=chosen.name,
        cause=evidence.cause,
        schema_violations=evidence.schema_violations,
        samples=len(candidate),
        coverage=_coverage(len(candidate), evidence.window_rows),
        since_change=evidence.since_change,
        candidate_score=score(chosen, candidate),
        production_score=_FIRST if production is None else score(chosen, production),
        gain=gain,
        planned_rows=planned if evidence.planned_rows is None else evidence.planned_rows,
        look=look,
        alpha=alpha,
        calibration=_FIRST if pair is None else _calibration(pair),
        probabilities_expected=any(
            version is not None and version.probabilities is not None for version in (candidate, production)
        ),
        candidate_latency_ms=median_ms(evidence.candidate_latencies_ms),
        production_latency_ms=_FIRST if pair is None else median_ms(evidence.production_latencies_ms),
        latency_ratio=_FIRST
        if pair is None
        else latency_ratio(evidence.candidate_latencies_ms, evidence.production_latencies_ms),
        candidate_bytes=evidence.candidate_bytes,
        production_bytes=evidence.production_bytes,
        budget_bytes=evidence.budget_bytes,
        segments=() if pair is None else segment_gains(pair, masks, bounds, rng),
        agreement=_FIRST if pair is None else _agreement(pair),
        floor=_floor(chosen, candidate, bounds, rng) if pair is None else None,
        training_rows=evidence.training_rows,
    )


def look_alpha(bounds: Bounds, *, look: int, spent: float = 0.0) -> float:
    """
    Give the significance level of one look: half of the remaining alpha for the first, a quarter for the second and
    third.

    The levels add up to alpha, so all looks together promote a candidate that is no better with at most this
    probability, however the looks depend on each other (Bonferroni). For other numbers of looks, alpha is divided
    equally.

    >>> [look_alpha(Bounds(alpha=0.04), look=look) for look in (1, 2, 3, 4)]
    [0.02, 0.01, 0.01, 0.0]
    """
    if look > bounds.looks:
        return 0.0
    part = _SPENDING[look - 1] if bounds.looks == len(_SPENDING) else 1 / bounds.looks
    return max(0.0, bounds.alpha - spent) * part


def _coverage(labelled: int, window_rows: int) -> Measurement:
    if not window_rows:
        return NotMeasured(reason="no prediction in the window", have=0, need=1)
    return Measured(value=labelled / window_rows, samples=window_rows)


def _calibration(pair: Pair) -> Measurement:
    if pair.metric.task is Task.REGRESSION:
        return NotMeasured(reason="the task is regression, which has no probabilities")
    scores = Pair(metric=METRICS["brier"], candidate=pair.candidate, production=pair.production).scores()
    if isinstance(scores, NotMeasured):
        return scores
    return Measured(value=scores[0].value - scores[1].value, samples=len(pair.candidate))


def _agreement(pair: Pair) -> Measurement:
    if pair.metric.task is Task.REGRESSION:
        return NotMeasured(reason="the task is regression, which has no decisions to compare")
    if not len(pair.candidate):
        return NotMeasured(reason="no labelled row", have=0, need=1)
    return Measured(
        value=float((pair.candidate.answers == pair.production.answers).mean()), samples=len(pair.candidate)
    )


def _floor(chosen: Metric, candidate: LabelledOutcomes, bounds: Bounds, rng: np.random.Generator) -> FloorFinding:
    floor = bounds.floor
    if floor is None:
        classes = max(2, len(candidate.classes))
        name, floor = ("balanced_accuracy", 1 / classes) if chosen.task is Task.CLASSIFICATION else ("r2", 0.0)
        chosen = METRICS[name]
    found = score(chosen, candidate)
    if isinstance(found, Measured):
        drawn = bootstrap(chosen, [candidate], rng, draws=DRAWS)[:, 0]
        low, high = np.nanquantile(drawn, [bounds.alpha, 1 - bounds.alpha])
        found = Measured(value=found.value, samples=found.samples, low=float(low), high=float(high))
    return FloorFinding(metric=chosen.name, score=found, floor=floor, higher_is_better=chosen.higher_is_better)
