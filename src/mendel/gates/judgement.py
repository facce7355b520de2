"""The judgement: pure in the numbers, and the road from rows to it."""

from __future__ import annotations

import numpy as np

from mendel.gates.criteria import CRITERIA
from mendel.gates.evidence import Evidence, Findings
from mendel.gates.measurements import measure
from mendel.gates.policy import GatePolicy
from mendel.gates.report import GateReport
from mendel.values import Measured, Measurement


def judge(evidence: Evidence, policy: GatePolicy, rng: np.random.Generator) -> GateReport:
    """
    Say whether a candidate may replace production.

    Equal evidence, policy and seed give an equal report.

    Raises:
        InvalidPolicy: The primary metric is unknown, or is none of the task.
        InvalidValue: A version left a labelled row without an answer.
    """
    return decide(measure(evidence, policy.bounds, rng), policy)


def decide(findings: Findings, policy: GatePolicy) -> GateReport:
    """
    Hold numbers against bounds: every gate, none short-circuits.

    Bounds themselves pass, and values are compared after rounding to 1e-9, so that arithmetic noise decides nothing. A
    first deployment has no production version to beat: binding are then schema, samples of the training rows, the floor
    and the serving budget, and the rest is information.
    """
    bounds = policy.bounds
    first = findings.floor is not None
    results = (criterion(findings, bounds) for criterion in CRITERIA)
    return GateReport(
        metric=findings.metric,
        cause=findings.cause,
        profile=policy.profile,
        first_deployment=first,
        samples=findings.samples,
        candidate_score=_value(findings.candidate_score),
        production_score=_value(findings.production_score),
        look=findings.look,
        alpha=findings.alpha,
        gates=tuple(result for result in results if first or result.gate != "floor"),
    )


def _value(measurement: Measurement) -> float | None:
    return measurement.value if isinstance(measurement, Measured) else None
