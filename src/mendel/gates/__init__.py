"""Check the evidence about a candidate version with gates; each gate passes, fails or stays undecided."""

from mendel.gates.evidence import Answers, Evidence, Findings, FloorFinding, RunCause, SegmentFinding
from mendel.gates.judgement import decide, judge
from mendel.gates.latency_ratio import latency_ratio
from mendel.gates.measurements import look_alpha, measure
from mendel.gates.paired_comparison import relative_gain, rows_for_power
from mendel.gates.policy import PROFILES, Bounds, GatePolicy, Profile
from mendel.gates.report import Family, GateReport, GateResult, Verdict
from mendel.gates.segments import automatic_segments

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
