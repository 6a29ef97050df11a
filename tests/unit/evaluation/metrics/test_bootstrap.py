import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from reconpatch.evaluation.metrics.bootstrap import draw_groups, weighted_auroc


def a_case(images=80, seed=0):
    labels = np.arange(images) % 2
    return labels, np.random.default_rng(seed).normal(size=images) + labels


@pytest.mark.parametrize("rounded", [False, True])
def test_weighted_auroc_equals_repeated_images(rounded):
    labels, scores = a_case()
    scores = np.round(scores) if rounded else scores
    weights = np.random.default_rng(1).integers(0, 4, (7, labels.size))
    expected = [roc_auc_score(np.repeat(labels, count), np.repeat(scores, count)) for count in weights]
    assert weighted_auroc(labels.astype(bool), scores, weights.astype(float)) == pytest.approx(expected)


def test_a_class_without_weight_is_nan():
    labels, scores = a_case()
    assert np.isnan(weighted_auroc(labels.astype(bool), scores, labels[None].astype(float))).all()


def test_groups_with_both_classes_are_drawn_whole():
    labels = np.array([True, False, True, False, True, False])
    member = np.array([0, 0, 1, 1, 2, 3])
    draws = draw_groups(labels, member, 4, 200, np.random.default_rng(0))
    assert (draws[:, :2].sum(axis=1) == 2).all()  # of both classes
    assert (draws[:, 2:] == 1).all()  # the only group of its stratum
    assert np.unique(draws[:, 0]).tolist() == [0, 1, 2]
