import numpy as np
import pytest
from scipy.stats import binomtest, norm
from sklearn.metrics import roc_auc_score

from reconpatch.errors import DataError
from reconpatch.evaluation.metrics.intervals import auroc_interval, share_interval


def a_case(images=80, copies=1, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % 2
    scores = rng.normal(size=images) + labels
    groups = np.array([f"g{i}" for i in range(images)])
    return np.repeat(labels, copies), np.repeat(scores, copies), np.repeat(groups, copies)


def width(interval):
    return interval[1] - interval[0]


# Fewest of the draws that hold the truth: the intervals in use hold it in at least 95 % of many draws,
# percentiles of the bootstrap in 85 to 89 % (benchmarks/interval_coverage.py).
@pytest.mark.parametrize(
    ("nominal", "defective", "truth", "size"),
    [(20, 63, 0.95, 1), (40, 40, 0.98, 1), (60, 189, 0.95, 3)],
)
def test_coverage_of_auroc_intervals(nominal, defective, truth, size):
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1], [nominal, defective])
    groups = np.concatenate([np.arange(nominal) // size, nominal + np.arange(defective) // size])
    held = 0
    for _ in range(200):
        shared = rng.normal(size=groups.max() + 1)[groups] if size > 1 else 0
        noise = rng.normal(size=labels.size)
        noise = np.sqrt(0.7) * shared + np.sqrt(0.3) * noise if size > 1 else noise
        low, high = auroc_interval(labels, noise + labels * np.sqrt(2) * norm.ppf(truth), groups)
        held += low <= truth <= high
    assert held >= 186  # 93 %


@pytest.mark.parametrize("size", [1, 3])
def test_coverage_of_share_intervals(size):
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        low, high = share_interval(np.repeat(rng.random(63) < 0.05, size), np.repeat(np.arange(63), size))
        held += low <= 0.05 <= high
    assert held >= 186  # 93 %


def test_interval_holds_the_estimate():
    labels, scores, groups = a_case()
    low, high = auroc_interval(labels, scores, groups)
    assert 0 < low < roc_auc_score(labels, scores) < high < 1
    assert auroc_interval(1 - labels, -scores, groups) == pytest.approx((low, high))
    assert auroc_interval(labels, -scores, groups) == pytest.approx((1 - high, 1 - low))


def test_bounds_are_those_of_newcombes_fifth_method():
    labels, scores, groups = a_case()
    area = roc_auc_score(labels, scores)
    for bound in auroc_interval(labels, scores, groups):
        terms = 1 + 39 * ((1 - bound) / (2 - bound) + bound / (1 + bound))
        error = np.sqrt(bound * (1 - bound) * terms / 40**2)
        assert abs(bound - area) == pytest.approx(norm.ppf(0.975) * error)


def test_a_perfect_auroc_has_an_interval_with_a_width():
    labels, scores, groups = a_case()
    low, high = auroc_interval(labels, scores + 100 * labels, groups)
    assert 0.9 < low < 0.97
    assert high == 1
    more = a_case(images=800)
    assert auroc_interval(more[0], more[1] + 100 * more[0], more[2])[0] > low
    assert auroc_interval(labels, scores - 100 * labels, groups) == pytest.approx((0, 1 - low))


@pytest.mark.parametrize("apart", [0, 100])
def test_copies_of_an_image_bring_no_certainty(apart):
    labels, scores, groups = a_case()
    plain = auroc_interval(labels, scores + apart * labels, groups)
    labels, scores, groups = a_case(copies=6)
    grouped = auroc_interval(labels, scores + apart * labels, groups)
    assert 0.95 * width(plain) < width(grouped) < 1.1 * width(plain)
    ignorant = auroc_interval(labels, scores + apart * labels, np.arange(labels.size))
    assert width(ignorant) < 0.6 * width(plain)


def test_groups_with_both_classes_bind_them():
    """Parts whose nominal and defective image rise together tell the classes apart more surely, and back."""
    rng = np.random.default_rng(0)
    labels, groups = np.tile([0, 1], 60), np.repeat(np.arange(60), 2)
    opposed = np.repeat(rng.normal(size=60), 2) * np.tile([1, -1], 60)
    scores = 1.5 * labels + opposed + 0.5 * rng.normal(size=120)
    assert width(auroc_interval(labels, scores, groups)) > 1.2 * width(
        auroc_interval(labels, scores, np.arange(120))
    )


def test_too_few_groups():
    labels, scores, _ = a_case()
    with pytest.raises(DataError, match="1 nominal groups are too few"):
        auroc_interval(labels, scores, np.where(labels, "a", "b"))
    with pytest.raises(DataError, match="too few"):
        share_interval([True, False], np.arange(2))


def test_independent_verdicts_have_clopper_and_pearsons_interval():
    hits = np.random.default_rng(0).random(100) < 0.8
    exact = binomtest(int(hits.sum()), 100).proportion_ci(0.95)
    assert share_interval(hits, np.arange(100)) == pytest.approx((exact.low, exact.high))
    together = share_interval(np.repeat(hits, 5), np.repeat(np.arange(100), 5))
    assert together == pytest.approx((exact.low, exact.high), abs=0.01)


@pytest.mark.parametrize("copies", [1, 4])
def test_equal_verdicts_have_an_interval_with_a_width(copies):
    groups = np.repeat(np.arange(63), copies)
    low, high = share_interval(np.zeros(groups.size, bool), groups)
    assert low == 0
    # Clopper and Pearson's of 63 parts; a little more where images come in groups.
    assert 1 - 0.025 ** (1 / 63) - 1e-9 <= high < 0.06
    assert share_interval(np.ones(groups.size, bool), groups) == pytest.approx((1 - high, 1))
