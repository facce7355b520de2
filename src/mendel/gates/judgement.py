"""Judge a candidate: compute the numbers from the evidence, and compare them with the policy's bounds."""

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
    Judge whether a candidate may replace the production version.

    Equal evidence, policy and seed give an equal report.

    Raises:
        InvalidPolicy: The primary metric is unknown or does not fit the task.
        InvalidValue: A labelled row has no answer of a version.
    """
    return decide(measure(evidence, policy.bounds, rng), policy)


def decide(findings: Findings, policy: GatePolicy) -> GateReport:
    """
    Compare the numbers with the bounds; every gate is evaluated, even after a failure.

    A value equal to its bound passes; values are rounded to 1e-9 first. A first deployment has no production version to
    compare with: only schema, samples (training rows), floor and the serving budget are binding, and the other gates
    are for information.
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
