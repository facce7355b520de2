"""Snapshots from counters, triggers at their boundaries, health without optimism."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mendel.errors import InvalidValue, VersionNotFound
from mendel.registry import (
    FROM_COUNTERS,
    Criterion,
    Expectations,
    Profile,
    Remedy,
    RollbackPolicy,
    Snapshot,
    exceeds,
    judge,
    latency_percentile,
    remedy_of,
    severity_of,
)
from mendel.values import (
    LATENCY_BOUNDS_MS,
    Health,
    Measured,
    ModelConvergence,
    NotMeasured,
    ServerReport,
    Severity,
    VersionCounters,
    Window,
)

MINUTE = timedelta(minutes=1)
POLICY = RollbackPolicy()


def bucketed(milliseconds, count):
    """A histogram of *count* requests in the bucket of one latency."""
    place = int(np.searchsorted(LATENCY_BOUNDS_MS, milliseconds))
    return tuple(count if index == place else 0 for index in range(len(LATENCY_BOUNDS_MS) + 1))


@pytest.fixture
def served(house):
    """One version in production, expected to answer in 90 ms at p95."""
    house.promoted(expectations=Expectations(latency_p95_ms=90.0))
    house.clock.forward(minutes=20)
    return house


class Server:
    """Reports counters that only grow, as servers do."""

    def __init__(self, house, name="s1", epoch="e1"):
        self.house, self.name, self.epoch, self.seq = house, name, epoch, 0
        self.counted = VersionCounters(model=house.model, version=1)

    def answers(self, requests, *, number=1, latency_ms=5.0, convergence=None, ready=True, **more):
        counted = (
            self.counted if self.counted.version == number else VersionCounters(model=self.house.model, version=number)
        )
        grown = {name: getattr(counted, name) + count for name, count in more.items()}
        latency = tuple(map(sum, zip(counted.latency, bucketed(latency_ms, requests), strict=True)))
        self.counted = replace(counted, requests=counted.requests + requests, latency=latency, **grown)
        self.report(counters=(self.counted,), convergence=convergence, ready=ready)

    def report(self, *, counters=(), convergence=None, ready=True):
        self.seq += 1
        serving = ModelConvergence(
            model=self.house.model, generation_desired=1, generation_serving=1, version_serving=1
        )
        self.house.registry.performance.record_server_report(
            ServerReport(
                server=self.name,
                epoch=self.epoch,
                seq=self.seq,
                at=self.house.clock(),
                revision=1,
                ready=ready,
                convergence=(convergence or serving,),
                counters=counters,
                spool={},
            )
        )


def snap(house, *, number=1, source="push", minutes=1, **fields):
    return Snapshot(
        ref=house.ref(number), window=Window.before(house.clock(), minutes * MINUTE), source=source, **fields
    )


def reasons(*snapshots, expected=None, policy=POLICY):
    return [r.reason for r in judge(snapshots, policy, expected_p95_ms=expected) if r.holds]


class TestTriggers:
    """The table of the contract, at its boundaries."""

    @pytest.fixture
    def measured(self, house):
        return lambda **fields: snap(house, **{"num_requests": 1000, **fields})

    @pytest.mark.parametrize(
        ("field", "at", "above", "text"),
        [
            ("error_rate", 0.05, 0.050000001, "High error rate: 5.00%"),
            ("error_rate", 0.0500000001, 0.0500000006, "High error rate: 5.00%"),
            ("error_rate", 0.05, 0.08, "High error rate: 8.00%"),
            ("ood_rate", 0.20, 0.25, "High OOD rate: 25.00%"),
            ("input_drift_score", 0.30000000000000004, 0.35, "Input distribution drift: 0.350"),
            ("input_drift_score", 0.1 + 0.2, 0.300000001, "Input distribution drift: 0.300"),
        ],
    )
    def test_only_strictly_above_triggers(self, measured, field, at, above, text):
        """At its bound, within the rounding to 1e-9, a criterion is silent; just above it speaks in its own words."""
        assert reasons(measured(**{field: at})) == []
        assert reasons(measured(**{field: above})) == [text]

    def test_latency_is_held_against_what_was_expected(self, measured):
        """The bound is 1.5 times the expected p95; without one, latency is not measured."""
        assert reasons(measured(latency_p95_ms=135.0), expected=90.0) == []
        assert reasons(measured(latency_p95_ms=150.0), expected=90.0) == [
            "Latency degradation: 150.0ms (expected 90.0ms)"
        ]
        reading = judge([measured(latency_p95_ms=9e9)], POLICY, expected_p95_ms=None)[1]
        assert (reading.holds, reading.measurement) == (
            False,
            NotMeasured(reason="no expected p95 latency was registered with the version"),
        )

    def test_all_that_hold_are_told_together(self, measured):
        """Every criterion that holds has its reason, in the order of the table."""
        worst = measured(error_rate=0.5, latency_p95_ms=500.0, ood_rate=0.5, input_drift_score=1.0)
        told = reasons(worst, expected=90.0)
        assert [text.split()[0] for text in told] == ["High", "Latency", "High", "Input"]

    def test_means_are_weighted_by_requests(self, measured):
        """A thousand good requests outweigh ten bad ones."""
        good, bad = measured(error_rate=0.0), measured(error_rate=1.0, num_requests=10)
        assert reasons(good, bad) == []
        assert reasons(good, replace(bad, num_requests=1000)) == ["High error rate: 50.00%"]

    def test_without_a_count_nothing_is_measured(self, measured):
        """A snapshot without the number of its requests is kept, and no criterion counts it."""
        bad = measured(error_rate=1.0, latency_p95_ms=9e9, ood_rate=1.0, input_drift_score=9.0, num_requests=None)
        readings = judge([bad, measured(error_rate=0.0)], POLICY, expected_p95_ms=90.0)
        assert [r.criterion for r in readings if isinstance(r.measurement, Measured)] == [Criterion.ERROR_RATE]
        assert readings[0].measurement == Measured(value=0.0, samples=1000)

    def test_counters_win_over_pushed_snapshots(self, measured):
        """What the servers counted in enough requests is not mixed with what another system says of the same time."""
        pushed = measured(error_rate=1.0, input_drift_score=0.35, num_requests=10_000)
        counted = measured(error_rate=0.0, source=FROM_COUNTERS, num_requests=50)
        assert reasons(pushed, counted) == ["Input distribution drift: 0.350"]
        assert reasons(pushed, replace(counted, num_requests=49))[0] == "High error rate: 100.00%"

    @pytest.mark.parametrize(
        ("field", "value", "need"), [("error_rate", 1.0, 50), ("ood_rate", 1.0, 50), ("input_drift_score", 9.0, 500)]
    )
    def test_too_few_requests_are_not_measured(self, measured, field, value, need):
        """One request below the minimum is not measured, and says how many are needed; at the minimum it triggers."""
        few = measured(**{field: value, "num_requests": need - 1})
        (reading,) = [
            r
            for r in judge([few], POLICY, expected_p95_ms=None)
            if isinstance(r.measurement, NotMeasured) and r.measurement.have
        ]
        assert (reading.measurement.have, reading.measurement.need) == (need - 1, need)
        assert reasons(few) == []
        assert len(reasons(replace(few, num_requests=need))) == 1

    @pytest.mark.parametrize(
        ("fields", "severity"),
        [
            ({}, None),
            ({"ood_rate": 0.9}, Severity.MEDIUM),
            ({"error_rate": 0.10}, Severity.MEDIUM),
            ({"error_rate": 0.11}, Severity.HIGH),
            ({"error_rate": 1.0}, Severity.CRITICAL),
        ],
    )
    def test_severity(self, measured, fields, severity):
        """Medium when something holds, high above a tenth, critical when nothing is answered."""
        assert severity_of(judge([measured(**fields)], POLICY, expected_p95_ms=None)) is severity

    def test_not_answering_is_critical(self):
        """A version that is known not to answer is critical without a single request."""
        readings = judge([], POLICY, expected_p95_ms=None, silent="No server can load the model: x")
        assert severity_of(readings) is Severity.CRITICAL
        assert [r.criterion for r in readings if r.holds] == [Criterion.AVAILABILITY]

    @pytest.mark.parametrize(
        ("fields", "default"),
        [
            ({}, None),
            ({"error_rate": 0.5}, Remedy.ROLLBACK),
            ({"ood_rate": 0.5}, Remedy.RETRAIN),
            ({"input_drift_score": 0.5}, Remedy.RETRAIN),
            ({"input_drift_score": 0.5, "error_rate": 0.5}, Remedy.ROLLBACK),
        ],
    )
    def test_the_cause_decides_the_remedy(self, measured, fields, default):
        """Faults roll back, drift retrains; under the classic profile everything rolls back."""
        readings = judge([measured(**fields)], POLICY, expected_p95_ms=None)
        assert remedy_of(readings, POLICY.profile) is default
        assert remedy_of(readings, Profile.CLASSIC) is (Remedy.ROLLBACK if default else None)

    @given(st.floats(0, 1), st.floats(0, 1))
    def test_exceeding_is_strict(self, value, bound):
        """Nothing exceeds itself, and of two values at most one exceeds the other."""
        assert not exceeds(value, value)
        assert not (exceeds(value, bound) and exceeds(bound, value))


class TestCounters:
    def test_a_snapshot_is_what_grew(self, served, registry):
        """Rates and percentiles come from the growth of the counters within the window."""
        server = Server(served)
        start = served.clock()
        server.answers(100, rows=200, latency_ms=5.0)
        served.clock.forward(minutes=1)
        server.answers(100, rows=200, model_errors=8, timeouts=2, ood_rows=50, latency_ms=180.0)
        snapshot = registry.performance.snapshot(served.ref(1), Window(start, served.clock()))
        assert (snapshot.num_requests, snapshot.source) == (100, FROM_COUNTERS)
        assert (snapshot.error_rate, snapshot.timeout_rate, snapshot.ood_rate) == (0.10, 0.02, 0.25)
        assert snapshot.requests_per_second == pytest.approx(100 / 60)
        assert 150 < snapshot.latency_p50_ms < snapshot.latency_p95_ms < snapshot.latency_p99_ms <= 200
        assert snapshot.input_drift_score is snapshot.accuracy is None

    def test_no_requests_is_no_measurement(self, served, registry):
        """An empty window has no rates, not rates of zero."""
        snapshot = registry.performance.snapshot(served.ref(1), Window.before(served.clock(), MINUTE))
        assert snapshot.num_requests == 0
        assert snapshot.error_rate is snapshot.ood_rate is snapshot.latency_p95_ms is None

    def test_unknown_versions_have_no_snapshot(self, served, registry):
        """A snapshot of what does not exist is refused, computed or pushed, and nothing is kept."""
        with pytest.raises(VersionNotFound):
            registry.performance.snapshot(served.ref(9), Window.before(served.clock(), MINUTE))
        with pytest.raises(VersionNotFound):
            registry.performance.record_snapshot(snap(served, number=9, error_rate=0.0))
        assert served.events("model.performance_snapshot") == []

    @pytest.mark.parametrize("value", [8.0, -0.01, 1.0000001, float("nan"), float("inf")])
    @pytest.mark.parametrize("field", ["error_rate", "ood_rate", "timeout_rate", "accuracy", "calibration_error"])
    def test_shares_are_fractions(self, house, field, value):
        """A percentage pushed as a share, a negative share and no number are refused."""
        with pytest.raises(InvalidValue):
            snap(house, **{field: value})

    @pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
    @pytest.mark.parametrize(
        "field", ["latency_p50_ms", "latency_p95_ms", "requests_per_second", "input_drift_score", "output_drift_score"]
    )
    def test_amounts_are_finite_and_not_negative(self, house, field, value):
        """A negative, infinite or undefined amount is refused, and so is a negative number of requests."""
        with pytest.raises(InvalidValue):
            snap(house, **{field: value})
        with pytest.raises(InvalidValue):
            snap(house, num_requests=-1)

    def test_percentiles_interpolate(self):
        """Within a bucket the quantile is linear; above the last bound it is that bound; empty is None."""
        assert latency_percentile(bucketed(4.0, 100), 0.5) == pytest.approx(4.0)
        assert latency_percentile(bucketed(99_999.0, 10), 0.99) == LATENCY_BOUNDS_MS[-1]
        assert latency_percentile(bucketed(4.0, 0), 0.5) is None

    @given(st.lists(st.integers(0, 50), min_size=25, max_size=25), st.floats(0, 1), st.floats(0, 1))
    def test_percentiles_grow_with_q(self, buckets, one, other):
        """A higher quantile is never a lower latency."""
        low, high = (latency_percentile(buckets, q) for q in sorted((one, other)))
        assert low is high is None or low <= high


class TestCheck:
    def test_faults_of_the_serving_version_trigger(self, served, registry):
        """A fault rate above the bound asks for a rollback, with evidence and the hash of the policy."""
        Server(served).answers(100, model_errors=8)
        check = registry.performance.check_rollback_triggers(served.model)
        assert check.should_roll_back
        assert check.reasons == ("High error rate: 8.00%",)
        assert (check.version, check.severity, check.remedy) == (1, Severity.MEDIUM, Remedy.ROLLBACK)
        assert check.evidence[0].measurement == Measured(value=0.08, samples=100)
        assert check.policy_hash == registry.policies.of(served.model).hash

    def test_it_changes_nothing(self, served, registry):
        """Checking and asking for health write neither events nor rows."""
        Server(served).answers(100, model_errors=50)
        before = served.unit._shared.committed
        registry.performance.check_rollback_triggers(served.model)
        registry.performance.health(served.model)
        assert served.unit._shared.committed is before

    def test_what_is_long_ago_does_not_count(self, served, registry):
        """Faults older than the policy's window are forgotten; a longer window remembers them."""
        server = Server(served)
        server.answers(100, model_errors=50)
        served.clock.forward(minutes=11)
        server.answers(100)
        assert not registry.performance.check_rollback_triggers(served.model).should_roll_back
        assert registry.performance.check_rollback_triggers(served.model, window=30 * MINUTE).should_roll_back

    def test_a_version_starts_afresh_with_each_tenure(self, served, registry):
        """What a version did before it last entered production does not count against it now."""
        server = Server(served)
        server.answers(100, model_errors=50)
        registry.performance.record_snapshot(snap(served, num_requests=100, error_rate=0.5))
        registry.lifecycle.promote(served.register().ref, by="ann")
        served.clock.forward(seconds=10)
        registry.lifecycle.roll_back(served.model, by="ann", reason="r")
        served.clock.forward(seconds=10)
        server.answers(100)
        assert not registry.performance.check_rollback_triggers(served.model).should_roll_back

    def test_another_version_does_not_count(self, served, registry):
        """Faults of a version that does not serve ask for nothing."""
        served.register()
        Server(served).answers(100, number=2, model_errors=100)
        assert not registry.performance.check_rollback_triggers(served.model).should_roll_back

    def test_a_pushed_snapshot_triggers(self, served, registry):
        """Recording a snapshot emits its event and answers what the triggers make of it."""
        check = registry.performance.record_snapshot(snap(served, num_requests=500, input_drift_score=0.35))
        assert check.reasons == ("Input distribution drift: 0.350",)
        assert check == registry.performance.check_rollback_triggers(served.model)
        (event,) = served.events("model.performance_snapshot")
        assert event.data["snapshot"]["input_drift_score"] == 0.35

    def test_overlapping_snapshots_are_cut_to_the_window(self, served, registry):
        """Of a snapshot that began before the window, the part within it counts, as if requests came evenly."""
        long = snap(served, minutes=20, num_requests=1000, input_drift_score=0.35)
        assert registry.performance.record_snapshot(long).evidence[3].measurement == Measured(value=0.35, samples=500)
        served.clock.forward(seconds=2)
        check = registry.performance.check_rollback_triggers(served.model)
        assert check.evidence[3].measurement == NotMeasured(
            reason="insufficient_data", have=498, need=500, unit="requests"
        )
        later = Window(served.clock() + MINUTE, served.clock() + 2 * MINUTE)
        future = replace(long, window=later, num_requests=9000, source="gateway")
        assert registry.performance.record_snapshot(future).evidence[3].measurement.have == 498

    def test_counters_are_not_counted_twice(self, served, registry):
        """A recorded snapshot of the counters does not weigh again beside the counters themselves."""
        server = Server(served)
        server.answers(50, model_errors=50)
        window = Window.before(served.clock(), MINUTE)
        registry.performance.record_snapshot(registry.performance.snapshot(served.ref(1), window))
        server.answers(950)
        assert not registry.performance.check_rollback_triggers(served.model).should_roll_back

    def test_the_policy_of_the_model_counts(self, served, registry):
        """Bounds come of the model's own policy."""
        registry.policies.set(served.model, {"rollback": {"error_rate": 0.5, "min_requests": 200, "window": "1m"}})
        Server(served).answers(199, model_errors=199)
        assert not registry.performance.check_rollback_triggers(served.model).should_roll_back
        Server(served, "s2").answers(1)
        assert registry.performance.check_rollback_triggers(served.model).should_roll_back

    def test_nothing_serves(self, house, registry):
        """A model without production version asks for nothing."""
        house.register()
        check = registry.performance.check_rollback_triggers(house.model)
        assert (check.should_roll_back, check.version, check.severity) == (False, None, None)

    def test_a_version_that_no_server_can_load_is_critical(self, served, registry):
        """Where no server serves a version that failed itself, three times, that is a trigger; a disk is none."""
        failed = ModelConvergence(
            model=served.model,
            generation_desired=1,
            generation_serving=0,
            version_serving=None,
            failed_version=1,
            error="bad pickle",
            version_at_fault=True,
        )
        server = Server(served)
        server.report(convergence=replace(failed, version_at_fault=False), ready=False)
        assert not registry.performance.check_rollback_triggers(served.model).should_roll_back
        assert registry.performance.health(served.model).health_status is Health.CRITICAL
        server.report(convergence=failed, ready=False)
        assert not registry.performance.check_rollback_triggers(served.model).should_roll_back, "seen once"
        server.report(convergence=replace(failed, failed_loads=3), ready=False)
        check = registry.performance.check_rollback_triggers(served.model)
        assert (check.severity, check.reasons) == (Severity.CRITICAL, ("No server can load the model: bad pickle",))
        assert registry.performance.health(served.model).health_status is Health.CRITICAL
        Server(served, "s2").report()
        assert not registry.performance.check_rollback_triggers(served.model).should_roll_back


class TestHealth:
    @pytest.mark.parametrize(
        ("counts", "word"),
        [
            ({}, Health.HEALTHY),
            ({"model_errors": 10}, Health.HEALTHY),
            ({"model_errors": 11}, Health.DEGRADED),
            ({"model_errors": 50}, Health.DEGRADED),
            ({"model_errors": 51}, Health.CRITICAL),
            ({"rows": 1000, "ood_rows": 150}, Health.HEALTHY),
            ({"rows": 1000, "ood_rows": 151}, Health.DEGRADED),
            ({"latency_ms": 200.0}, Health.DEGRADED),
        ],
    )
    def test_words_at_their_boundaries(self, served, registry, counts, word):
        """Degraded above 1 % errors, 15 % OOD or with a trigger; critical above 5 % errors."""
        Server(served).answers(1000, **counts)
        report = registry.performance.health(served.model)
        assert report.health_status is word
        assert bool(report.reasons) is (word is not Health.HEALTHY)

    @pytest.mark.parametrize("requests", [1, 49])
    def test_few_requests_are_unknown(self, served, registry, requests):
        """One error in one request is no collapse: below the policy's least number, the health is unknown."""
        Server(served).answers(requests, model_errors=requests)
        report = registry.performance.health(served.model)
        assert report.health_status is Health.UNKNOWN
        assert report.reasons == (f"Too few requests in the window: {requests} of the 50 that the policy needs",)
        assert report.metrics.avg_error_rate == 1.0

    def test_enough_requests_are_judged(self, served, registry):
        """From the policy's least number of requests on, errors are critical."""
        Server(served).answers(50, model_errors=50)
        assert registry.performance.health(served.model).health_status is Health.CRITICAL

    def test_drift_alone_degrades(self, served, registry):
        """A model that answers everything, but drifts, is not healthy."""
        Server(served).answers(1000)
        registry.performance.record_snapshot(snap(served, num_requests=1000, input_drift_score=0.5))
        assert registry.performance.health(served.model).health_status is Health.DEGRADED

    def test_no_data_is_unknown(self, served, registry):
        """A version without requests is unknown, never healthy."""
        report = registry.performance.health(served.model)
        assert report.health_status is Health.UNKNOWN
        assert report.metrics.avg_error_rate is None
        assert report.deployed_at == registry.lifecycle.history(served.model)[0].start

    def test_silent_servers_are_critical(self, served, registry):
        """When no server has reported for the policy's silence, the model does not answer, whatever it did before."""
        Server(served).answers(1000)
        served.clock.forward(seconds=10)
        assert registry.performance.health(served.model).health_status is Health.HEALTHY
        served.clock.forward(seconds=1)
        report = registry.performance.health(served.model)
        assert report.health_status is Health.CRITICAL
        assert "No server has reported since" in report.reasons[0]
        assert not registry.performance.check_rollback_triggers(served.model).should_roll_back
