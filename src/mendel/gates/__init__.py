"""Check the evidence about a candidate version with gates; each gate passes, fails or stays undecided."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mendel.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from mendel.gates.evidence import Answers, Evidence, Findings, FloorFinding, RunCause, SegmentFinding
    from mendel.gates.judgement import decide, judge
    from mendel.gates.latencies import latency_ratio
    from mendel.gates.measurements import look_alpha, measure
    from mendel.gates.paired_comparison import relative_gain, rows_for_power
    from mendel.gates.policy import PROFILES, Bounds, GatePolicy, Profile
    from mendel.gates.report import Family, GateReport, GateResult, Verdict
    from mendel.gates.segments import automatic_segments
else:
    __getattr__ = lazy_exports(__name__)

__all__ = [
    "PROFILES",
    "Answers",
    "Bounds",
    "Evidence",
    "Family",
    "Findings",
    "FloorFinding",
    "GatePolicy",
    "GateReport",
    "GateResult",
    "Profile",
    "RunCause",
    "SegmentFinding",
    "Verdict",
    "automatic_segments",
    "decide",
    "judge",
    "latency_ratio",
    "look_alpha",
    "measure",
    "relative_gain",
    "rows_for_power",
]
