import numpy as np
import pytest
from scipy.stats import median_abs_deviation

from reconpatch.calibration.normalisation import RobustStatistics
from reconpatch.errors import DataError


def test_against_scipy():
    scores = np.random.default_rng(0).gamma(2, size=(7, 31)).astype(np.float32)
    statistics = RobustStatistics.from_scores(scores)
    assert statistics.n == 217
    assert statistics.median == pytest.approx(np.median(scores))
    assert statistics.mad == pytest.approx(median_abs_deviation(scores.ravel()))
    expected = (scores - np.median(scores)) / (1.4826 * median_abs_deviation(scores.ravel()))
    z = statistics.modified_z(scores)
    np.testing.assert_allclose(z, expected, rtol=1e-4, atol=1e-5)
    assert z.dtype == np.float32
    assert z.shape == scores.shape


def test_by_hand():
    """Of 1, 2, 3, 4, 100: median 3, deviations 2, 1, 0, 1, 97, whose median is 1."""
    statistics = RobustStatistics.from_scores([1, 2, 3, 4, 100])
    assert (statistics.median, statistics.mad, statistics.n) == (3, 1, 5)
    assert statistics.modified_z(3 + 1.4826) == pytest.approx(1)
    assert statistics.modified_z([3, 0]).dtype == np.float64


def test_normal_scores_have_modified_z_scores_of_spread_one():
    scores = np.random.default_rng(0).normal(5, 3, 100_000)
    assert RobustStatistics.from_scores(scores).modified_z(scores).std() == pytest.approx(1, abs=0.02)


def test_more_than_half_equal_falls_back_on_the_mean_deviation():
    statistics = RobustStatistics.from_scores([2, 2, 2, 2, 7])
    assert statistics.mad == 0
    assert statistics.mean_deviation == 1
    assert statistics.modified_z(7) == pytest.approx(5 / np.sqrt(np.pi / 2))


def test_all_equal_leaves_differences_as_they_are():
    statistics = RobustStatistics.from_scores(np.full(9, 4.0))
    np.testing.assert_array_equal(statistics.modified_z([4.0, 5.5, 3.0]), [0, 1.5, -1])


@pytest.mark.parametrize("scores", [[], [1.0, np.nan], [np.inf]])
def test_no_or_not_finite_scores(scores):
    with pytest.raises(DataError, match="absent or not finite"):
        RobustStatistics.from_scores(scores)


def test_an_even_number_of_scores():
    """Of 1, 2, 3, 10: median 2.5, deviations 1.5, 0.5, 0.5, 7.5, whose median is 1 and mean 2.5."""
    assert RobustStatistics.from_scores([1, 2, 3, 10]) == RobustStatistics(2.5, 1, 2.5, 4)


def test_a_fifth_of_wild_scores_moves_the_statistics_little():
    scores = np.random.default_rng(1).normal(0, 1, 1000)
    scores[:200] = 1e6
    statistics = RobustStatistics.from_scores(scores)
    assert abs(statistics.median) < 0.5
    assert 0.5 < statistics.scale < 2


def test_scores_in_another_unit_have_the_same_z_scores():
    scores = np.random.default_rng(2).gamma(3, size=101)
    other = 100 + 7 * scores
    np.testing.assert_allclose(
        RobustStatistics.from_scores(other).modified_z(other),
        RobustStatistics.from_scores(scores).modified_z(scores),
        atol=1e-9,
    )


def test_z_scores_leave_what_they_are_given_alone():
    maps = np.ones((2, 3, 3), dtype=np.float32)
    assert (RobustStatistics(3.0, 2.0, 3.0, 4).modified_z(maps) < 0).all()
    assert (maps == 1).all()
