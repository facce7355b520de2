from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from mendel.drift import statistics
from mendel.errors import EmptyWindow, InvalidValue, ShapeMismatch

COUNTS = st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=2, max_size=40).filter(
    lambda pairs: any(a for a, _ in pairs) and any(b for _, b in pairs)
)
SAMPLES = st.lists(st.floats(-1e3, 1e3) | st.integers(-3, 3).map(float), min_size=4, max_size=60)
TWO_WINDOWS = [
    statistics.kolmogorov_smirnov,
    statistics.chi_square,
    statistics.jensen_shannon,
    statistics.kullback_leibler,
    statistics.population_stability_index,
]


def pool(before: ArrayLike, after: ArrayLike) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Each value that occurs in either sample, ascending, and its counts in the two samples."""
    support = np.unique(np.concatenate([before, after]))
    first, second = (np.array([(np.asarray(sample) == value).sum() for value in support]) for sample in (before, after))
    return support, first, second


@given(SAMPLES, SAMPLES)
def test_ks_of_raw_samples_is_scipys(before: list[float], after: list[float]) -> None:
    """On pooled values the statistic is scipy's, and the p-value that of its limiting distribution."""
    _, first, second = pool(before, after)
    ours = statistics.kolmogorov_smirnov(first, second)
    theirs = scipy.stats.ks_2samp(before, after, method="asymp").statistic
    assert ours.statistic == pytest.approx(theirs, abs=1e-9)
    size = len(before) * len(after) / (len(before) + len(after))
    assert ours.p_value == pytest.approx(scipy.stats.kstwobign.sf(theirs * math.sqrt(size)), abs=1e-9)


def test_ks_p_value_is_close_to_exact(rng: np.random.Generator) -> None:
    """At the fewest rows that are measured, the p-value is within a hundredth of the exact one."""
    before, after = rng.normal(size=200), rng.normal(0.2, size=200)
    _, first, second = pool(before, after)
    exact = scipy.stats.ks_2samp(before, after, method="exact").pvalue
    assert statistics.kolmogorov_smirnov(first, second).p_value == pytest.approx(exact, abs=0.01)


@given(SAMPLES, SAMPLES)
def test_wasserstein_of_raw_samples_is_scipys(before: list[float], after: list[float]) -> None:
    """On pooled values the distance is scipy's."""
    support, first, second = pool(before, after)
    ours = statistics.wasserstein(support, first, second)
    assert ours == pytest.approx(scipy.stats.wasserstein_distance(before, after), rel=1e-9, abs=1e-9)


@given(COUNTS)
def test_chi_square_is_scipys(pairs: list[tuple[int, int]]) -> None:
    """Statistic and p-value are those of a contingency table without correction."""
    table = np.array(pairs).T
    ours = statistics.chi_square(table[0], table[1])
    theirs = scipy.stats.chi2_contingency(table[:, table.sum(axis=0) > 0], correction=False)
    assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-9, abs=1e-9)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9, abs=1e-9)


@given(COUNTS)
def test_jensen_shannon_is_scipys(pairs: list[tuple[int, int]]) -> None:
    """The distance is scipy's with natural logarithms."""
    before, after = np.array(pairs).T
    theirs = np.nan_to_num(scipy.spatial.distance.jensenshannon(before, after))
    assert statistics.jensen_shannon(before, after) ** 2 == pytest.approx(theirs**2, abs=1e-9)


@given(COUNTS)
def test_kullback_leibler_is_scipys(pairs: list[tuple[int, int]]) -> None:
    """Where the reference has no empty cell the divergence is scipy's entropy of the two shares."""
    before, after = np.array(pairs).T + np.array([[50], [0]])
    p, q = before / before.sum(), after / after.sum()
    assert statistics.kullback_leibler(before, after) == pytest.approx(scipy.stats.entropy(q, p), abs=1e-9)


@given(COUNTS)
def test_psi_is_symmetric(pairs: list[tuple[int, int]]) -> None:
    """Which window is the reference does not matter, and equal windows score 0."""
    before, after = np.array(pairs).T
    there = statistics.population_stability_index(before, after)
    back = statistics.population_stability_index(after, before)
    assert there == pytest.approx(back, abs=1e-12)
    assert there >= 0
    assert statistics.population_stability_index(before, before) == 0


def test_psi_by_hand() -> None:
    """Shares 0.9/0.1 against 0.7/0.3: -0.2 ln(7/9) + 0.2 ln 3."""
    by_hand = -0.2 * math.log(0.7 / 0.9) + 0.2 * math.log(3)
    assert statistics.population_stability_index([90, 10], [70, 30]) == pytest.approx(by_hand, abs=1e-12)


def test_psi_floor_is_an_argument() -> None:
    """An empty bin counts as the floor says: 0.5 against the floor."""
    by_hand = (0.5 - 0.01) * math.log(0.5 / 0.01) + (0.5 - 1.0) * math.log(0.5)
    assert statistics.population_stability_index([10, 0], [5, 5], floor=0.01) == pytest.approx(by_hand, abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50))
def test_benjamini_hochberg_is_scipys(p_values: list[float]) -> None:
    """Corrected p-values are scipy's."""
    theirs = scipy.stats.false_discovery_control(p_values, method="bh")
    assert statistics.benjamini_hochberg(p_values) == pytest.approx(theirs.tolist(), abs=1e-12)


@pytest.mark.parametrize("statistic", TWO_WINDOWS)
def test_empty_window_is_undefined(statistic: object) -> None:
    """Over no observation every statistic is undefined, and not 0."""
    with pytest.raises(EmptyWindow):
        statistic([1, 2], [0, 0])


@pytest.mark.parametrize("statistic", TWO_WINDOWS)
def test_different_cells_are_refused(statistic: object) -> None:
    """Windows over different cells cannot be compared."""
    with pytest.raises(ShapeMismatch):
        statistic([1, 2], [1, 2, 3])


def test_negative_counts_are_refused() -> None:
    """A count below 0 is no count."""
    with pytest.raises(InvalidValue):
        statistics.jensen_shannon([1, -1], [1, 2])


@pytest.mark.parametrize(("rows", "within"), [(100, 0.06), (1000, 0.002)])
def test_bias_is_what_unchanged_data_score(rows: int, within: float, rng: np.random.Generator) -> None:
    """On average unchanged rows in 64 bins score their bias, so that less the bias they score about 0."""
    shares = np.full(64, 1 / 64)
    scores = [statistics.kullback_leibler(shares, rng.multinomial(rows, shares)) for _ in range(1000)]
    assert np.mean(scores) == pytest.approx(statistics.divergence_bias(64, rows), abs=within)


def test_uncorrected_divergence_alarms(rng: np.random.Generator) -> None:
    """100 unchanged rows in 64 bins score above 0.30 four times in five: that is why the bias is subtracted."""
    shares = np.full(64, 1 / 64)
    scores = np.array([statistics.kullback_leibler(shares, rng.multinomial(100, shares)) for _ in range(1000)])
    assert 0.75 < (scores > 0.30).mean() < 0.9


def test_coarse_groups_keep_the_whole() -> None:
    """Groups are neighbours, no more than asked for, and leave nothing out."""
    counts = np.array([0, 10, 10, 10, 200, 10, 10, 0])
    starts = statistics.coarsen(counts, groups=4)
    assert starts[0] == 0
    assert len(starts) <= 4
    assert np.add.reduceat(counts, starts).sum() == counts.sum()
