from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mendel.gates import (
    Findings,
    FloorFinding,
    GatePolicy,
    GateReport,
    Profile,
    RunCause,
    SegmentFinding,
    Verdict,
    decide,
)
from mendel.values import Measured, NotMeasured

Make = Callable[..., Findings]
DEFAULT = GatePolicy()
RANK = [Verdict.FAIL, Verdict.UNDECIDED, Verdict.PASS]


def against(report: GateReport) -> list[str]:
    """Binding gates that do not pass."""
    return [result.gate for result in report.gates if result.binding and result.verdict is not Verdict.PASS]


def share(value: float, rows: int = 2000) -> Measured:
    return Measured(value=value, samples=rows)


def gain(value: float, low: float | None = 0.001, high: float | None = 0.5) -> Measured:
    return Measured(value=value, samples=1000, low=low, high=high)


def segment(high: float) -> tuple[SegmentFinding, ...]:
    fine = SegmentFinding(name="fine", gain=Measured(value=0.0, samples=100, high=0.1))
    return fine, SegmentFinding(name="hurt", gain=Measured(value=high - 0.02, samples=100, high=high))


UNTIMED = NotMeasured(reason="too few side-by-side latency measurements of both versions", have=3, need=7)


def ratio(value: float, low: float) -> Measured:
    return Measured(value=value, samples=15, low=low, high=value + 1)


def test_fair_evidence_passes(findings: Make) -> None:
    """The evidence that each boundary test changes in one place passes every gate."""
    report = decide(findings(), DEFAULT)
    assert report.verdict is Verdict.PASS
    assert report.promotes
    assert (report.needs, report.reasons) == ((), ())


BOUNDARIES = [
    ("schema", {"schema_violations": ()}, {"schema_violations": ("age: null in row 3",)}, Verdict.FAIL),
    ("samples", {"samples": 200}, {"samples": 199}, Verdict.UNDECIDED),
    ("coverage", {"coverage": share(0.30)}, {"coverage": share(0.2999, 10_000)}, Verdict.UNDECIDED),
    (
        "cooldown",
        {"since_change": timedelta(days=7)},
        {"since_change": timedelta(days=6, hours=23, minutes=59)},
        Verdict.FAIL,
    ),
    ("improvement", {"gain": gain(0.02)}, {"gain": gain(0.0199)}, Verdict.FAIL),
    ("improvement", {"gain": gain(0.05, low=0.0001)}, {"gain": gain(0.05, low=0.0)}, Verdict.FAIL),
    ("calibration", {"calibration": share(0.0100)}, {"calibration": share(0.0101)}, Verdict.FAIL),
    ("latency", {"latency_ratio": ratio(1.7, low=1.5)}, {"latency_ratio": ratio(1.7, low=1.501)}, Verdict.FAIL),
    ("size", {"candidate_bytes": 2000}, {"candidate_bytes": 2001}, Verdict.FAIL),
    ("size", {"budget_bytes": 1000}, {"budget_bytes": 999}, Verdict.FAIL),
    ("segments", {"segments": segment(-0.050)}, {"segments": segment(-0.051)}, Verdict.FAIL),
    ("agreement", {"agreement": share(0.80)}, {"agreement": share(0.7999)}, Verdict.FAIL),
]


@pytest.mark.parametrize(("gate", "inside", "outside", "verdict"), BOUNDARIES)
def test_each_gate_alone_flips_the_decision_at_its_boundary(
    gate: str, inside: dict[str, object], outside: dict[str, object], verdict: Verdict, findings: Make
) -> None:
    """At the bound the decision is to promote, just beyond it is not, and by that gate alone."""
    at, beyond = decide(findings(**inside), DEFAULT), decide(findings(**outside), DEFAULT)
    assert at.verdict is Verdict.PASS
    assert beyond.verdict is verdict
    assert against(beyond) == [gate]
    assert beyond[gate].verdict is verdict


NOISE = [
    ("coverage", {"coverage": share(0.1 + 0.2 - 1e-16)}),
    ("improvement", {"gain": gain((0.816 - 0.8) / 0.8)}),
    ("calibration", {"calibration": share(0.11 - 0.10)}),
]


@pytest.mark.parametrize(("gate", "changes"), NOISE)
def test_arithmetic_noise_decides_nothing(gate: str, changes: dict[str, object], findings: Make) -> None:
    """A bound that is met in decimals is met, whatever binary floating point makes of it."""
    assert decide(findings(**changes), DEFAULT)[gate].verdict is Verdict.PASS


MISSING = [
    ("schema", {"schema_violations": None}),
    ("coverage", {"coverage": NotMeasured(reason="no prediction in the window")}),
    ("improvement", {"gain": NotMeasured(reason="f1 is undefined on these rows")}),
    ("calibration", {"calibration": NotMeasured(reason="the version returns no probabilities")}),
    ("latency", {"candidate_latency_ms": UNTIMED}),
    ("latency", {"production_latency_ms": UNTIMED}),
    ("latency", {"latency_ratio": UNTIMED}),
    ("size", {"candidate_bytes": None}),
    ("segments", {"segments": ()}),
    (
        "segments",
        {"segments": (SegmentFinding(name="few", gain=NotMeasured(reason="too few labelled rows", have=9, need=30)),)},
    ),
    ("agreement", {"agreement": NotMeasured(reason="no labelled row")}),
]


@pytest.mark.parametrize(("gate", "changes"), MISSING)
def test_missing_evidence_never_promotes(gate: str, changes: dict[str, object], findings: Make) -> None:
    """Evidence that is not there is undecided, says what it needs, and does not promote."""
    report = decide(findings(**changes), DEFAULT)
    assert report.verdict is Verdict.UNDECIDED
    assert against(report) == [gate]
    assert report[gate].needs
    assert not report.promotes


def test_none_short_circuits(findings: Make) -> None:
    """Where everything is wrong, everything is reported."""
    wrong = {key: value for _, _, outside, _ in BOUNDARIES for key, value in outside.items()}
    report = decide(findings(**wrong), DEFAULT)
    assert {gate for gate, *_ in BOUNDARIES} == set(against(report))
    assert report.verdict is Verdict.FAIL
    assert len(report.gates) == 10


@pytest.mark.parametrize(
    ("changes", "needs"),
    [
        ({"samples": 143}, "need 57 more labelled evaluation rows"),
        ({"coverage": share(0.25, 2000)}, "need about 100 more labels of the window's predictions"),
        ({"gain": gain(0.03, low=-0.01), "planned_rows": 1340}, "need about 340 more labelled rows"),
    ],
)
def test_undecided_says_what_is_needed(changes: dict[str, object], needs: str, findings: Make) -> None:
    """An undecided report counts what is missing."""
    assert decide(findings(**changes), DEFAULT).needs == (needs,)


def test_gain_that_more_rows_could_show_is_undecided(findings: Make) -> None:
    """Undecided until the planned size; failed at it, at the last look, or when the gain is ruled out."""
    unsure = gain(0.01, low=-0.02, high=0.04)
    verdicts = {
        "more rows": decide(findings(gain=unsure, planned_rows=1001), DEFAULT),
        "at the planned size": decide(findings(gain=unsure, planned_rows=1000), DEFAULT),
        "last look": decide(findings(gain=unsure, planned_rows=5000, look=3), DEFAULT),
        "ruled out": decide(findings(gain=msgspec.structs.replace(unsure, high=0.0199), planned_rows=5000), DEFAULT),
    }
    assert {why: report["improvement"].verdict for why, report in verdicts.items()} == {
        "more rows": Verdict.UNDECIDED,
        "at the planned size": Verdict.FAIL,
        "last look": Verdict.FAIL,
        "ruled out": Verdict.FAIL,
    }


def test_spent_alpha_fails(findings: Make) -> None:
    """A candidate without a look left fails, however well it looks."""
    report = decide(findings(look=4, alpha=0.0, gain=gain(0.5, low=0.4)), DEFAULT)
    assert against(report) == ["improvement"]
    assert report.verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("cause", "binding"),
    [(RunCause.DRIFT, False), (RunCause.QUALITY, False), (RunCause.MANUAL, True)],
)
def test_agreement_informs_where_the_world_has_changed(cause: RunCause, binding: bool, findings: Make) -> None:
    """After drift or a fall in quality decisions should change, so agreement binds nothing then."""
    report = decide(findings(agreement=share(0.1), cause=cause), DEFAULT)
    assert report["agreement"].verdict is Verdict.FAIL
    assert report["agreement"].binding is binding
    assert report.promotes is not binding


def test_tiny_latencies_pass(findings: Make) -> None:
    """Up to a millisecond a candidate passes, however many times slower it surely is."""
    slower = {"latency_ratio": ratio(9.5, low=9.0), "production_latency_ms": share(0.1)}
    assert decide(findings(candidate_latency_ms=share(0.9), **slower), DEFAULT).promotes
    assert not decide(findings(candidate_latency_ms=share(1.1), **slower), DEFAULT).promotes


def test_the_latency_gate_tells_point_bound_and_interval(findings: Make) -> None:
    """Beside its verdict stand the ratio, the bound and the interval; profile classic looks at the ratio alone."""
    unsure = findings(latency_ratio=ratio(1.6, low=1.2))
    found = decide(unsure, DEFAULT)["latency"]
    assert (found.verdict, found.value, found.bound, found.interval) == (Verdict.PASS, 1.6, 1.5, (1.2, 2.6))
    assert "1.6 times (confidence interval 1.2 to 2.6); at most 1.5 times" in found.text
    assert decide(unsure, GatePolicy(profile=Profile.CLASSIC))["latency"].verdict is Verdict.FAIL


def test_no_change_yet_is_no_cooldown(findings: Make) -> None:
    """A model that was never promoted or rolled back has nothing to cool from."""
    assert decide(findings(since_change=None), DEFAULT).promotes


def test_cooldown_is_not_rounded_up(findings: Make) -> None:
    """A minute less than a week is not shown as a week."""
    text = decide(findings(since_change=timedelta(days=6, hours=23, minutes=59)), DEFAULT)["cooldown"].text
    assert text.startswith("6 d 23 h 59 m")


def test_classic_looks_at_points_only(findings: Make) -> None:
    """Profile classic asks neither for a lower bound nor for a surely lost segment."""
    classic = GatePolicy(profile=Profile.CLASSIC)
    unsure = {"gain": gain(0.02, low=-0.1)}
    assert decide(findings(**unsure), classic).promotes
    assert not decide(findings(**unsure), DEFAULT).promotes
    hurt = (SegmentFinding(name="hurt", gain=Measured(value=-0.06, samples=100, high=0.2)),)
    assert against(decide(findings(segments=hurt), classic)) == ["segments"]
    assert decide(findings(segments=hurt), DEFAULT).promotes


def first(findings: Make, **changes: object) -> Findings:
    nothing = NotMeasured(reason="the model has no production version")
    floor = FloorFinding(
        metric="balanced_accuracy", score=Measured(value=0.7, samples=300, low=0.65, high=0.75), floor=0.5
    )
    alone = {
        "production_score": nothing,
        "gain": nothing,
        "calibration": nothing,
        "agreement": nothing,
        "segments": (),
        "production_bytes": None,
        "production_latency_ms": nothing,
        "latency_ratio": nothing,
        "budget_bytes": None,
        "floor": floor,
        "training_rows": 200,
        "samples": 40,
    }
    return findings(**(alone | changes))


def test_first_deployment(findings: Make) -> None:
    """Without a production version, schema, training rows and the floor bind; the rest informs."""
    report = decide(first(findings), DEFAULT)
    assert report.promotes
    assert {result.gate for result in report.gates if result.binding} == {"schema", "samples", "floor"}


@pytest.mark.parametrize(
    ("gate", "changes"),
    [
        ("schema", {"schema_violations": ("x",)}),
        ("samples", {"training_rows": 199}),
        ("samples", {"training_rows": None}),
        ("size", {"candidate_bytes": 5001, "budget_bytes": 5000}),
    ],
)
def test_first_deployment_boundaries(gate: str, changes: dict[str, object], findings: Make) -> None:
    """Each gate that binds a first deployment can refuse it alone."""
    assert against(decide(first(findings, **changes), DEFAULT)) == [gate]


@pytest.mark.parametrize(("low", "promotes"), [(0.501, True), (0.5, False), (0.49, False)])
def test_first_deployment_is_better_than_chance(low: float, promotes: bool, findings: Make) -> None:
    """The lower bound must be above chance, not only the estimate; at chance is not above it."""
    floor = FloorFinding(metric="balanced_accuracy", score=Measured(value=0.7, samples=300, low=low), floor=0.5)
    assert decide(first(findings, floor=floor), DEFAULT).promotes is promotes


def test_floor_of_a_loss_is_a_ceiling(findings: Make) -> None:
    """A first deployment judged by a loss must surely stay below the floor."""
    for high, promotes in ((0.39, True), (0.41, False)):
        score = Measured(value=0.3, samples=300, low=0.2, high=high)
        floor = FloorFinding(metric="log_loss", score=score, floor=0.4, higher_is_better=False)
        assert decide(first(findings, floor=floor), DEFAULT).promotes is promotes


NUMBERS = st.fixed_dictionaries(
    {
        "coverage": st.floats(0, 1),
        "days": st.floats(0, 20),
        "gain": st.floats(-0.2, 0.2),
        "low": st.floats(-0.2, 0.2),
        "calibration": st.floats(-0.05, 0.05),
        "latency": st.floats(0.1, 40),
        "high": st.floats(-0.2, 0.2),
        "agreement": st.floats(0, 1),
    }
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(one=NUMBERS, other=NUMBERS, profile=st.sampled_from(list(Profile)))
def test_better_evidence_never_turns_the_decision_down(
    one: dict[str, float], other: dict[str, float], profile: Profile, findings: Make
) -> None:
    """Where every number is at least as good, so is every gate's verdict and the decision."""
    worse_is_more = {"calibration", "latency"}
    better = {key: (min if key in worse_is_more else max)(one[key], other[key]) for key in one}

    def judged(numbers: dict[str, float]) -> GateReport:
        made = findings(
            coverage=share(numbers["coverage"]),
            since_change=timedelta(days=numbers["days"]),
            gain=gain(numbers["gain"], low=numbers["low"], high=None),
            planned_rows=1200,
            calibration=share(numbers["calibration"]),
            candidate_latency_ms=share(numbers["latency"]),
            latency_ratio=ratio(numbers["latency"] / 10, low=numbers["latency"] / 12),
            segments=segment(numbers["high"]),
            agreement=share(numbers["agreement"]),
        )
        return decide(made, GatePolicy(profile=profile))

    before, after = judged(one), judged(better)
    assert RANK.index(after.verdict) >= RANK.index(before.verdict)
    for result in before.gates:
        assert RANK.index(after[result.gate].verdict) >= RANK.index(result.verdict)
