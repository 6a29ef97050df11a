import numpy as np
import pytest
from sklearn.metrics import f1_score

from reconpatch.errors import DataError
from reconpatch.evaluation.metrics.image_metrics import d_prime, f1_max, image_auroc


def a_case(seed, levels=None):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 60)
    scores = rng.normal(size=60) + labels
    return labels, scores if levels is None else np.round(scores * levels) / levels


@pytest.mark.parametrize("levels", [None, 1, 3])
def test_auroc_counts_pairs(levels):
    labels, scores = a_case(1, levels)
    pairs = [
        (good < bad) + 0.5 * (good == bad) for good in scores[labels == 0] for bad in scores[labels == 1]
    ]
    assert image_auroc(labels, scores) == pytest.approx(np.mean(pairs))
    assert image_auroc(labels.astype(bool), scores) == image_auroc(labels, scores)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("levels", [None, 2])
def test_f1_is_the_best_of_all_thresholds(seed, levels):
    labels, scores = a_case(seed, levels)
    best, threshold = f1_max(labels, scores)
    assert best == pytest.approx(max(f1_score(labels, scores >= t) for t in scores))
    assert best == pytest.approx(f1_score(labels, scores > threshold))
    assert best == pytest.approx(f1_score(labels, scores >= threshold))


def test_f1_prefers_to_reject_less():
    # Rejecting 1 (F1 = 2/3) and rejecting 3 (2 of them defective: 2*2/(3+2) = 0.8), 2 (0.5) ...
    assert f1_max([1, 0, 1, 0], [4.0, 3.0, 2.0, 1.0]) == (0.8, 1.5)
    # Equal F1 of 2/3 at 1 and at 4 rejected: the fewer.
    assert f1_max([1, 0, 0, 1], [4.0, 3.0, 2.0, 1.0]) == (pytest.approx(2 / 3), 3.5)


def test_f1_when_all_must_be_rejected():
    best, threshold = f1_max([1, 1], [1.0, 2.0])
    assert best == 1.0
    assert 0.999 < threshold < 1.0


def test_d_prime_by_hand():
    # Means 1 and 5, variances 2 and 8: 4 / sqrt(5).
    assert d_prime([0, 0, 1, 1], [0.0, 2.0, 3.0, 7.0]) == pytest.approx(4 / np.sqrt(5))


@pytest.mark.parametrize(
    ("labels", "scores", "text"),
    [
        ([0, 0], [1.0, 2.0], "no defective"),
        ([], [], "no defective"),
        ([0, 1], [1.0], "shape"),
        ([0, 2], [1.0, 2.0], "labels must"),
        ([0, 1], [1.0, np.nan], "score 1"),
    ],
)
@pytest.mark.parametrize("metric", [image_auroc, f1_max, d_prime])
def test_what_is_not_defined_is_refused(metric, labels, scores, text):
    with pytest.raises(DataError, match=text):
        metric(labels, scores)


def test_one_class_only():
    with pytest.raises(DataError, match="no nominal"):
        image_auroc([1, 1], [1.0, 2.0])
    with pytest.raises(DataError, match="two nominal"):
        d_prime([0, 1, 1], [1.0, 2.0, 3.0])
    with pytest.raises(DataError, match="equal"):
        d_prime([0, 0, 1, 1], [1.0, 1.0, 2.0, 2.0])
