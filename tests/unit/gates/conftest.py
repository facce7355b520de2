from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from mendel.gates import Answers, Evidence, Findings, RunCause, SegmentFinding, automatic_segments
from mendel.values import Measured, Table


@pytest.fixture
def findings() -> Callable[..., Findings]:
    """Numbers that pass every gate of the default profile, but for those that a test sets."""

    def make(**changes: Any) -> Findings:
        fair = {
            "schema_violations": (),
            "samples": 1000,
            "coverage": Measured(value=0.5, samples=2000),
            "since_change": timedelta(days=30),
            "candidate_score": Measured(value=0.84, samples=1000),
            "production_score": Measured(value=0.80, samples=1000),
            "gain": Measured(value=0.05, samples=1000, low=0.01, high=0.09),
            "planned_rows": 800,
            "alpha": 0.0125,
            "calibration": Measured(value=-0.01, samples=1000),
            "candidate_latency_ms": Measured(value=10.0, samples=15),
            "production_latency_ms": Measured(value=10.0, samples=15),
            "latency_ratio": Measured(value=1.0, samples=15, low=0.9, high=1.1),
            "candidate_bytes": 1000,
            "production_bytes": 1000,
            "budget_bytes": 5000,
            "segments": (SegmentFinding(name="age < 30", gain=Measured(value=0.05, samples=300, high=0.12)),),
            "agreement": Measured(value=0.9, samples=1000),
        }
        return Findings(**(fair | changes))

    return make


@pytest.fixture
def evidence() -> Callable[..., Evidence]:
    """
    Rows of which production answers most and the candidate more rightly.

    ``skill`` is the share of rows that a version gets right; both go wrong on rows of their own.
    """

    def make(
        *,
        rows: int = 1000,
        candidate: float | Answers = 0.9,
        production: float | Answers | None = 0.8,
        seed: int = 0,
        **changes: Any,
    ) -> Evidence:
        rng = np.random.default_rng(seed)
        age = rng.uniform(20, 80, rows)
        labels = (rng.random(rows) < 0.4).astype(np.float64)

        def answers(skill: float | Answers | None) -> Answers | None:
            if not isinstance(skill, float):
                return skill
            right = rng.random(rows) < skill
            said = np.where(right, labels, 1 - labels)
            sure = np.where(said == 1, skill, 1 - skill)
            return Answers(outputs=said, probabilities={"0": 1 - sure, "1": sure})

        fair = {
            "labels": labels,
            "candidate": answers(candidate),
            "production": answers(production),
            "segments": automatic_segments(Table({"age": age})),
            "window_rows": rows * 2,
            "training_rows": 5000,
            "cause": RunCause.DRIFT,
            "schema_violations": (),
            "candidate_latencies_ms": (5.0,) * 15,
            "production_latencies_ms": (5.0,) * 15,
            "candidate_bytes": 1000,
            "production_bytes": 1000,
        }
        return Evidence(**(fair | changes))

    return make
