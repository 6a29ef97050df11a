import numpy as np
import pytest
from scipy.stats import beta

from reconpatch.calibration.threshold import conformal_threshold
from reconpatch.errors import DataError, SettingsError


@pytest.mark.parametrize(
    ("n", "rate", "rank"),
    [
        (19, 0.05, 19),  # ceil(20 * 0.95) = 19: the largest
        (39, 0.05, 38),  # ceil(40 * 0.95) = 38
        (99, 0.01, 99),
        (100, 0.01, 100),  # ceil(101 * 0.99) = ceil(99.99)
        (199, 0.01, 198),
        (9, 0.5, 5),
        (4, 0.3, 4),  # ceil(5 * 0.7) = 4 although 5 * 0.7 > 3.5 - rounding
        (9, 0.1, 9),
        (24, 0.44, 14),  # 25 * (1 - 0.44) is 14.000000000000002 in floating point, whose ceiling is 15
        (29, 0.1, 27),
    ],
)
def test_value_is_the_right_order_statistic(n, rate, rank):
    scores = np.random.default_rng(0).permutation(np.arange(1, n + 1))
    threshold = conformal_threshold(scores, rate)
    assert threshold.value == rank
    assert threshold.n == n
    assert threshold.false_reject_rate == rate


@pytest.mark.parametrize(("n", "rate"), [(1, 0.5), (30, 1 / 31), (98, 1 / 99), (99, 0.01), (1000, 0.01)])
def test_default_rate_is_one_percent_or_what_n_supports(n, rate):
    threshold = conformal_threshold(np.arange(n))
    assert threshold.false_reject_rate == pytest.approx(rate)
    if n <= 99:
        assert threshold.value == n - 1


@pytest.mark.parametrize(
    ("n", "rate", "needed"), [(18, 0.05, 19), (98, 0.01, 99), (5, 0.1, 9), (50, 0.001, 999)]
)
def test_rate_that_n_cannot_support_names_the_number_needed(n, rate, needed):
    with pytest.raises(
        SettingsError, match=f"false_reject_rate is {rate}: {n} held-out .* hold out {needed} "
    ):
        conformal_threshold(np.arange(n), rate)
    assert conformal_threshold(np.arange(needed), rate).value == needed - 1


@pytest.mark.parametrize("n", [1, 7, 19, 33, 98])
def test_smallest_rate_that_the_message_offers_is_accepted(n):
    assert conformal_threshold(np.arange(n), 1 / (n + 1)).value == n - 1


def test_promise_holds_on_fresh_scores():
    """Over many draws the mean false-reject rate is rank-exact, and the interval covers 95 %."""
    rng = np.random.default_rng(0)
    rates, covered = [], []
    for _ in range(2000):
        threshold = conformal_threshold(rng.exponential(size=59), 0.1)
        rate = np.exp(-threshold.value)
        low, high = threshold.interval
        rates.append(rate)
        covered.append(low <= rate <= high)
    assert np.mean(rates) == pytest.approx(0.1, abs=0.003)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("scores", [[], [np.nan, 1.0], [np.inf]])
def test_no_or_not_finite_scores(scores):
    with pytest.raises(DataError, match="absent or not finite"):
        conformal_threshold(scores)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, 2.0])
def test_rate_out_of_range(rate):
    with pytest.raises(SettingsError, match="above 0 and below 1"):
        conformal_threshold(np.arange(10), rate)


def test_least_rate_takes_the_largest_score_for_every_n():
    for n in range(1, 400):
        assert conformal_threshold(np.arange(n), 1 / (n + 1)).value == n - 1


def test_the_rate_that_a_refusal_offers_is_accepted_as_it_is_written():
    """A third rounded to 0.3333 would be refused again."""
    for n in range(1, 200):
        with pytest.raises(SettingsError) as caught:
            conformal_threshold(np.arange(n), 0.5 / (n + 1))
        offered = float(str(caught.value).split("ask for ")[1].split(" or more")[0])
        assert offered == pytest.approx(1 / (n + 1), abs=1.1e-6)
        assert conformal_threshold(np.arange(n), offered).value == n - 1


def test_a_rate_of_almost_one_takes_the_smallest_score():
    threshold = conformal_threshold(np.arange(5), 1 - 1e-12)
    assert threshold.value == 0
    assert np.isfinite(threshold.interval).all()


def test_a_rate_that_is_no_number():
    with pytest.raises(SettingsError, match="above 0 and below 1"):
        conformal_threshold(np.arange(10), np.nan)


@pytest.mark.parametrize(("n", "rate", "rank"), [(9, 0.1, 9), (20, 0.1, 19), (199, 0.05, 190)])
def test_interval_is_the_central_95_percent_of_the_beta_distribution(n, rate, rank):
    low, high = conformal_threshold(np.arange(n), rate).interval
    law = beta(n + 1 - rank, rank)
    assert law.cdf(low) == pytest.approx(0.025, abs=1e-9)
    assert law.cdf(high) == pytest.approx(0.975, abs=1e-9)
    assert 0 < low < law.mean() < high < 1


def test_interval_of_one_score_by_hand():
    """The true rate above the only score is uniform."""
    assert conformal_threshold([5.0], 0.5).interval == pytest.approx((0.025, 0.975))


def test_ties_only_lower_the_rate():
    rng = np.random.default_rng(2)
    rejected = [
        np.mean(conformal_threshold(rng.integers(0, 4, 19), 0.1).value < rng.integers(0, 4, 200))
        for _ in range(500)
    ]
    assert np.mean(rejected) < 0.1


def test_order_and_shape_of_the_scores_do_not_matter():
    scores = np.random.default_rng(1).normal(size=40).astype(np.float32)
    assert conformal_threshold(scores.reshape(8, 5), 0.1) == conformal_threshold(np.sort(scores)[::-1], 0.1)
