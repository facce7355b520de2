from __future__ import annotations

from datetime import timedelta

import numpy as np
import pytest

from mendel.drift import (
    Band,
    DriftReport,
    EffectThresholds,
    MonitoringPolicy,
    Profile,
    Reference,
    compare,
    is_drift_confirmed,
    merge_profiles,
)
from mendel.errors import ReferenceMismatch
from mendel.values import EPOCH, Measured, NotMeasured, Severity, Table, Window

DAY = timedelta(days=1)


def day(number: int) -> Window:
    return Window(EPOCH + DAY * number, EPOCH + DAY * (number + 1))


def test_same_rows_have_not_drifted(reference: Reference, people: Table, policy: MonitoringPolicy) -> None:
    """Training data held against themselves show nothing at all."""
    report = compare(reference, people, policy)
    assert report.drifted_features == ()
    assert report.drift_share == Measured(value=0.0, samples=4)
    assert report.band is Band.NORMAL
    assert all(reading.value < 1e-12 for reading in report.readings)


def test_null_stream_rarely_alarms(people: Table, policy: MonitoringPolicy, rng: np.random.Generator) -> None:
    """On fresh rows of the same source hardly a window shows a drifted feature, and none counts as drifted data."""
    reference = Reference.fit(people.take(np.arange(1000)))
    windows = [people.take(1000 + rng.integers(0, 1000, 250)) for _ in range(100)]
    reports = [compare(reference, window, policy) for window in windows]
    assert sum(bool(report.drifted_features) for report in reports) <= 5
    assert not any(report.drift_detected for report in reports)


def test_share_is_computed(reference: Reference, people: Table, policy: MonitoringPolicy) -> None:
    """Drift share is the share of drifted features: 0, 1 and 2 of 4, and no constant."""
    one = people.with_columns({"age": people["age"] + 20})
    two = one.with_columns({"city": np.full(len(people), "Kiel", dtype=object)})
    shares = [compare(reference, rows, policy).drift_share for rows in (people, one, two)]
    assert [share.value for share in shares if isinstance(share, Measured)] == [0.0, 0.25, 0.5]


@pytest.mark.parametrize(
    ("drifted", "band", "detected"),
    [(2, Band.NORMAL, False), (3, Band.WARNING, True), (5, Band.WARNING, True), (6, Band.CRITICAL, True)],
)
def test_bands(drifted: int, band: Band, detected: bool, policy: MonitoringPolicy, rng: np.random.Generator) -> None:
    """Of ten features, two drifted are normal, three to five a warning, six critical."""
    names = [f"f{number}" for number in range(10)]
    before = Table({name: rng.normal(size=1000) for name in names})
    after = Table({name: rng.normal(3.0 * (n < drifted), size=1000) for n, name in enumerate(names)})
    report = compare(Reference.fit(before), after, policy)
    assert (report.band, report.drift_detected) == (band, detected)
    assert report.severity is {Band.WARNING: Severity.LOW, Band.CRITICAL: Severity.MEDIUM}.get(band)
    assert report.drifted_features == tuple(names[:drifted])
    assert (f"and {drifted - 5} more)" in str(report)) == (drifted > 5)


def test_too_few_rows_are_not_measured(reference: Reference, people: Table, policy: MonitoringPolicy) -> None:
    """199 rows are neither drift nor no drift; 200 are measured."""
    few = compare(reference, people.take(np.arange(199)), policy)
    assert few.drift_share == NotMeasured(reason="insufficient_data", have=199, need=200, unit="rows")
    assert few.drift_detected is None
    assert few.band is Band.UNKNOWN
    assert isinstance(few.input_drift_score, NotMeasured)
    assert all(feature.drifted is None for feature in few.features)
    assert isinstance(compare(reference, people.take(np.arange(200)), policy).drift_share, Measured)


def test_no_row_is_not_measured(reference: Reference, policy: MonitoringPolicy) -> None:
    """A quiet night is not an error."""
    report = compare(reference, Profile.empty(reference), policy)
    assert report.drift_share == NotMeasured(reason="insufficient_data", have=0, need=200, unit="rows")


def test_a_million_rows_do_not_make_a_trifle_an_alarm(policy: MonitoringPolicy, rng: np.random.Generator) -> None:
    """A shift of a hundredth of a deviation is beyond doubt in a million rows, and still no drift."""
    reference = Reference.fit(Table({"x": rng.normal(size=1_000_000)}))
    reading = compare(reference, Table({"x": rng.normal(0.01, size=1_000_000)}), policy)["x"].readings[0]
    assert reading.corrected < 1e-6
    assert reading.value < 0.1
    assert not reading.drifted


def test_few_rows_do_not_make_noise_an_alarm(rng: np.random.Generator) -> None:
    """With floors of 0 the p-value alone keeps false alarms at alpha: 5 in 100, here at most 9."""
    tolerant = MonitoringPolicy(effects=EffectThresholds(wasserstein=0.0, js=0.0, psi=None))
    pairs = [rng.normal(size=(2, 250)) for _ in range(100)]
    reports = [compare(Reference.fit(Table({"x": a})), Table({"x": b}), tolerant) for a, b in pairs]
    assert 0 < sum(bool(report.drifted_features) for report in reports) <= 9


def test_changed_unit_does_not_vanish_above(reference: Reference, people: Table, policy: MonitoringPolicy) -> None:
    """Metres turned into millimetres fall into one cell, and the distance still says by how much."""
    report = compare(reference, people.with_columns({"income": people["income"] * 1000}), policy)
    reading = report["income"].reading
    moved = people["income"].mean() * 999 / people["income"].std()
    assert reading is not None
    assert reading.drifted
    assert reading.value == pytest.approx(moved, rel=1e-6)


def test_distance_from_cells_is_close_to_that_of_rows(policy: MonitoringPolicy, rng: np.random.Generator) -> None:
    """Between continuous samples the distance by cells is within a thousandth of a deviation of scipy's on the rows."""
    from scipy.stats import ks_2samp, wasserstein_distance  # noqa: PLC0415 - the oracle is slow to import

    before, after = rng.normal(size=20_000), rng.normal(0.5, 1.2, size=20_000)
    reading = compare(Reference.fit(Table({"x": before})), Table({"x": after}), policy)["x"].readings[0]
    assert reading.value == pytest.approx(wasserstein_distance(before, after) / before.std(), abs=1e-3)
    assert reading.statistic == pytest.approx(ks_2samp(before, after).statistic, abs=2e-3)


def test_new_category_drifts(reference: Reference, people: Table, policy: MonitoringPolicy) -> None:
    """A category never seen counts as a change, and its share is told."""
    cities = people["city"].copy()
    cities[:500] = "Kiel"
    feature = compare(reference, people.with_columns({"city": cities}), policy)["city"]
    assert feature.drifted
    assert feature.quality is not None
    assert feature.quality.new_categories == 0.25


def test_missing_numbers_drift(reference: Reference, people: Table, policy: MonitoringPolicy) -> None:
    """Numbers that go missing are a change, though those that stay are as they were."""
    ages = np.where(np.arange(2000) % 5 == 0, np.nan, people["age"])
    feature = compare(reference, people.with_columns({"age": ages}), policy)["age"]
    values, presence = feature.readings
    assert (values.drifted, presence.drifted) == (False, True)
    assert feature.quality is not None
    assert (feature.quality.missing, feature.quality.reference_missing) == (0.2, 0.0)


def test_all_missing_is_drift_and_not_measured(reference: Reference, people: Table, policy: MonitoringPolicy) -> None:
    """Where no value is left, the values are not measured, but their absence is."""
    feature = compare(reference, people.without("age"), policy)["age"]
    assert feature.not_measured == NotMeasured(reason="insufficient_data", have=0, need=200, unit="rows")
    assert [reading.aspect for reading in feature.readings] == ["presence"]
    assert feature.drifted


def test_infinities_are_out_of_range(reference: Reference, people: Table, policy: MonitoringPolicy) -> None:
    """Infinite values are counted as data quality, and never reach a sum."""
    ages = np.where(np.arange(2000) % 10 == 0, np.inf, people["age"])
    feature = compare(reference, people.with_columns({"age": ages}), policy)["age"]
    assert feature.quality is not None
    assert feature.quality.out_of_range == pytest.approx(0.1)
    assert np.isfinite(feature.readings[0].value)


@pytest.mark.parametrize(("moved", "drifted"), [(0, False), (0.05, False), (0.5, True)])
def test_constant_feature(moved: float, drifted: bool, policy: MonitoringPolicy) -> None:
    """A feature without spread drifts when a tenth of the rows leave its value, by the share of those."""
    reference = Reference.fit(Table({"x": np.full(1000, 0.1)}))
    rows = np.where(np.arange(1000) < 1000 * moved, 0.2, 0.1)
    feature = compare(reference, Table({"x": rows}), policy)["x"]
    assert feature.readings[0].value == pytest.approx(moved)
    assert feature.drifted is drifted


def test_feature_that_was_always_null(policy: MonitoringPolicy) -> None:
    """A feature without a value in training has nothing to compare values with, and appears when it appears."""
    reference = Reference.fit(Table({"x": np.full(500, np.nan)}))
    feature = compare(reference, Table({"x": np.ones(500)}), policy)["x"]
    assert feature.not_measured == NotMeasured(reason="no_value_in_reference")
    assert feature.drifted


def test_outputs_are_watched_apart(people: Table, policy: MonitoringPolicy) -> None:
    """Answers drift like features, but do not count in the share of drifted inputs."""
    said = np.array(["0", "1"] * 1000, dtype=object)
    reference = Reference.fit(people.with_columns({"prediction": said, "proba.1": np.linspace(0, 1, 2000)}))
    later = people.with_columns({"prediction": np.full(2000, "1", dtype=object), "proba.1": np.linspace(0.5, 1, 2000)})
    report = compare(reference, later, policy)
    assert report.drifted_outputs == ("prediction", "proba.1")
    assert report.drifted_features == ()
    assert report.drift_share == Measured(value=0.0, samples=4)
    assert isinstance(report.output_drift_score, Measured)
    assert report.output_drift_score.value > 0.3


def test_drift_score_of_unchanged_rows_is_small(people: Table, policy: MonitoringPolicy) -> None:
    """Without its bias the divergence of unchanged rows is far below the 0.30 that triggers a rollback."""
    reference = Reference.fit(people.take(np.arange(1800)))
    score = compare(reference, people.take(np.arange(1800, 2000)), policy).input_drift_score
    assert isinstance(score, Measured)
    assert score.value < 0.1


def test_named_effects_must_agree(reference: Reference, people: Table) -> None:
    """What one statistic calls drift is none where another named one disagrees."""
    later = people.with_columns({"age": people["age"] + 3})
    without = MonitoringPolicy(effects=EffectThresholds(psi=None))
    assert compare(reference, later, without).drifted_features == ("age",)
    assert compare(reference, later, MonitoringPolicy()).drifted_features == ()
    also = MonitoringPolicy(effects=EffectThresholds(psi=None, kl=5.0))
    assert compare(reference, later, also).drifted_features == ()


def test_rows_and_profiles_give_one_report(reference: Reference, people: Table, policy: MonitoringPolicy) -> None:
    """The report on rows is that on their profile, and on the sum of the profiles of their parts."""
    whole = compare(reference, people, policy)
    parts = [Profile.of(reference, people.take(np.arange(start, start + 500))) for start in range(0, 2000, 500)]
    summed = compare(reference, merge_profiles(reference, parts), policy)
    assert summed.drift_share == whole.drift_share
    assert [r.p_value for f in summed.features for r in f.readings] == [
        r.p_value for f in whole.features for r in f.readings
    ]


def test_other_reference_is_refused(reference: Reference, people: Table, policy: MonitoringPolicy) -> None:
    """A profile against another reference is not compared."""
    other = Reference.fit(people.take(np.arange(1000)))
    with pytest.raises(ReferenceMismatch):
        compare(reference, Profile.of(other, people), policy)


def test_report_carries_its_evidence(reference: Reference, people: Table, policy: MonitoringPolicy) -> None:
    """Reference, window, method, value, threshold, p-value and samples stand in the report, held by its digest."""
    report = compare(reference, people, policy, window=day(1))
    tree = report.as_dict()
    assert tree["reference_id"] == reference.id
    assert tree["profile_digest"] == Profile.of(reference, people).digest
    assert tree["window"]["start"] == "1970-01-02T00:00:00Z"
    reading = tree["features"][0]["readings"][0]
    assert {"test", "p_value", "corrected", "effects", "samples"} <= reading.keys()
    assert {"method", "value", "threshold"} <= reading["effects"][0].keys()
    assert compare(reference, people, policy, window=day(1)).digest == tree["digest"]
    assert compare(reference, people, policy, window=day(2)).digest != tree["digest"]


@pytest.fixture
def drifted(reference: Reference, people: Table) -> Table:
    return people.with_columns({"age": people["age"] + 30, "city": np.full(2000, "Kiel", dtype=object)})


def reports(reference: Reference, windows: list[Table]) -> list[DriftReport]:
    return [compare(reference, rows, MonitoringPolicy(), window=day(number)) for number, rows in enumerate(windows)]


def test_drift_is_confirmed_in_consecutive_windows(reference: Reference, people: Table, drifted: Table) -> None:
    """Two windows in a row confirm; one, or two with a calm one between, do not."""
    policy = MonitoringPolicy()
    assert is_drift_confirmed(reports(reference, [people, drifted, drifted]), policy)
    assert not is_drift_confirmed(reports(reference, [people, drifted]), policy)
    assert not is_drift_confirmed(reports(reference, [drifted, people, drifted]), policy)
    assert not is_drift_confirmed([], policy)


def test_unmeasured_windows_are_passed_over(reference: Reference, people: Table, drifted: Table) -> None:
    """A window with too few rows neither confirms nor clears."""
    few = drifted.take(np.arange(50))
    assert is_drift_confirmed(reports(reference, [drifted, few, drifted]), MonitoringPolicy())
    assert not is_drift_confirmed(reports(reference, [few, few, drifted]), MonitoringPolicy())


def test_one_window_seen_twice_does_not_confirm(reference: Reference, people: Table, drifted: Table) -> None:
    """A revised report takes the place of the first of the same window."""
    twice = [compare(reference, rows, MonitoringPolicy(), window=day(0)) for rows in (drifted, drifted)]
    assert not is_drift_confirmed(twice, MonitoringPolicy())


def test_real_rows_do_not_drift_from_themselves(credit: Table, policy: MonitoringPolicy) -> None:
    """One half of real applicants has not drifted from the other; a recalibrated and an aged one has."""
    half = len(credit) // 2
    reference = Reference.fit(credit.take(np.arange(half)))
    later = credit.take(np.arange(half, len(credit)))
    assert compare(reference, later, policy).drifted_features == ()
    moved = later.with_columns({"MonthlyIncome": later["MonthlyIncome"] * 1.5, "age": later["age"] + 15})
    assert compare(reference, moved, policy).drifted_features == ("MonthlyIncome", "age")


def test_real_windows_rarely_alarm(credit: Table, policy: MonitoringPolicy, rng: np.random.Generator) -> None:
    """Fifty windows of 300 real applicants each, and no false alarm."""
    reference = Reference.fit(credit)
    windows = [credit.take(rng.integers(0, len(credit), 300)) for _ in range(50)]
    assert not any(compare(reference, window, policy).drift_detected for window in windows)
