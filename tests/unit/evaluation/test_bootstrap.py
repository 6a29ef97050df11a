import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from reconpatch.errors import DataError
from reconpatch.evaluation.bootstrap import auroc_interval, share_interval, weighted_auroc


def a_case(images=80, copies=1, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(images) % 2
    scores = rng.normal(size=images) + labels
    groups = np.array([f"g{i}" for i in range(images)])
    return np.repeat(labels, copies), np.repeat(scores, copies), np.repeat(groups, copies)


@pytest.mark.parametrize("rounded", [False, True])
def test_weighted_auroc_equals_repeated_images(rounded):
    labels, scores, _ = a_case()
    scores = np.round(scores) if rounded else scores
    weights = np.random.default_rng(1).integers(0, 4, (7, labels.size))
    expected = [roc_auc_score(np.repeat(labels, count), np.repeat(scores, count)) for count in weights]
    assert weighted_auroc(labels.astype(bool), scores, weights.astype(float)) == pytest.approx(expected)


def test_a_class_without_weight_is_nan():
    labels, scores, _ = a_case()
    assert np.isnan(weighted_auroc(labels.astype(bool), scores, labels[None].astype(float))).all()


def test_interval_holds_the_estimate_and_is_reproducible():
    labels, scores, groups = a_case()
    low, high = auroc_interval(labels, scores, groups, seed=4)
    assert 0 < low < roc_auc_score(labels, scores) < high < 1
    assert (low, high) == auroc_interval(labels, scores, groups, seed=4)
    assert (low, high) != auroc_interval(labels, scores, groups, seed=5)


def test_copies_of_an_image_bring_no_certainty():
    labels, scores, groups = a_case()
    plain = auroc_interval(labels, scores, groups)
    grouped = auroc_interval(*a_case(copies=6))
    assert grouped == pytest.approx(plain)
    apart = [f"{group}-{i}" for i, group in enumerate(a_case(copies=6)[2])]
    ignorant = auroc_interval(*a_case(copies=6)[:2], apart)
    assert ignorant[1] - ignorant[0] < 0.6 * (plain[1] - plain[0])


def test_groups_with_both_classes_are_drawn_whole():
    labels, scores, _ = a_case()
    pairs = [f"g{i // 2}" for i in range(labels.size)]
    low, high = auroc_interval(labels, scores, pairs)
    assert low < roc_auc_score(labels, scores) < high


def test_coverage_is_near_what_is_said():
    truth = 0.7602  # P(N(1,1) > N(0,1)) = Phi(1/sqrt(2))
    hits = 0
    for seed in range(60):
        low, high = auroc_interval(*a_case(images=120, seed=seed), resamples=400)
        hits += low <= truth <= high
    assert hits >= 52


def test_a_saturated_set_has_no_interval():
    labels, scores, groups = a_case()
    with pytest.raises(DataError, match="saturated"):
        auroc_interval(labels, scores + 100 * labels, groups)


def test_too_few_groups():
    labels, scores, _ = a_case()
    with pytest.raises(DataError, match="too few"):
        auroc_interval(labels, scores, np.where(labels, "a", "b"))


def test_share_interval():
    rng = np.random.default_rng(0)
    hits = rng.random(100) < 0.8
    low, high = share_interval(hits, np.arange(100))
    assert low < hits.mean() < high
    # Of a binomial: 1.96 standard errors on both sides.
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(hits.mean() * (1 - hits.mean()) / 100), rel=0.2)
    together = share_interval(np.repeat(hits, 5), np.repeat(np.arange(100), 5))
    assert together == pytest.approx((low, high), abs=0.02)


@pytest.mark.parametrize(("hits", "text"), [([True] * 9, "saturated"), ([True, False], "too few")])
def test_share_without_an_interval(hits, text):
    with pytest.raises(DataError, match=text):
        share_interval(hits, np.arange(len(hits)))
