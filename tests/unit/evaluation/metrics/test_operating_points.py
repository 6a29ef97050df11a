"""Thresholds from labels, against trying every cut; and what chose them is never evaluated."""

import numpy as np
import pytest

from reconpatch.errors import DataError
from reconpatch.evaluation.evaluate import evaluate
from reconpatch.evaluation.metrics.image_metrics import f1_max
from reconpatch.evaluation.metrics.operating_points import choosing_part, cost_optimal
from reconpatch.settings import load_settings


def _cost(labels, scores, threshold, miss, false_reject):
    rejected = scores > threshold
    return miss * np.sum(~rejected & (labels == 1)) + false_reject * np.sum(rejected & (labels == 0))


@pytest.mark.parametrize("costs", [(10, 1), (1, 1), (1, 10), (1, 1000), (1000, 1)])
def test_no_cut_is_cheaper_than_the_chosen_one(costs):
    rng = np.random.default_rng(0)
    for _ in range(40):
        labels = np.append(rng.integers(0, 2, 24), [0, 1])
        scores = rng.integers(0, 10, 26) + 2.0 * labels
        chosen = cost_optimal(labels, scores, *costs)
        cuts = np.append(np.unique(scores), scores.min() - 1)
        best = min(_cost(labels, scores, cut, *costs) for cut in cuts)
        assert _cost(labels, scores, chosen, *costs) == best


def test_cost_by_hand():
    labels, scores = np.array([0, 0, 1, 0, 1]), np.array([1.0, 2, 3, 4, 5])
    assert cost_optimal(labels, scores, 10, 1) == 2.5  # one false reject is cheaper than a miss
    assert cost_optimal(labels, scores, 1, 10) == 4.5
    assert cost_optimal([0, 1, 0], [1.0, 2, 3], 1, 10) == 3  # rejecting nothing is the cheapest


def test_groups_and_contents_stay_whole_and_both_classes_choose(manifest):
    test = manifest[manifest["split"] == "test"].reset_index(drop=True)
    test["group"] = [f"g{i // 3}" for i in range(len(test))]
    test.loc[len(test) - 1, "sha256"] = test.loc[0, "sha256"]
    chosen = choosing_part(test, 0.5, 0)
    assert not set(test["group"][chosen]) & set(test["group"][~chosen])
    assert not set(test["sha256"][chosen]) & set(test["sha256"][~chosen])
    assert set(test["label"][chosen]) == {0, 1}
    assert not choosing_part(test, 0.0, 0).any()


def test_what_chooses_a_threshold_is_not_evaluated(manifest, detector, settings):
    half = load_settings(None, {"evaluate.choose_share": 0.5, "evaluate.miss_cost": 3.0}, base=settings)
    whole = evaluate(detector, manifest, settings)
    found = evaluate(detector, manifest, half)
    assert "n_choose" not in whole.metrics
    assert found.metrics["n_choose"] + found.metrics["n_test"] == whole.metrics["n_test"]
    rest = whole.table[~whole.table["path"].isin(found.table["path"])]
    labels, scores = rest["label"].to_numpy(), rest["score"].to_numpy()
    assert found.metrics["f1_chosen_threshold"] == f1_max(labels, scores)[1]
    assert found.metrics["cost_chosen_threshold"] == cost_optimal(labels, scores, 3.0, 1.0)
    for label, name in ((0, "false_reject_rate"), (1, "detection_rate")):
        kept = found.table.loc[found.table["label"] == label, "score"]
        assert found.metrics[f"f1_chosen_{name}"] == (kept > found.metrics["f1_chosen_threshold"]).mean()


def test_no_labelled_defect_is_a_reason_and_no_threshold(manifest, detector, settings):
    half = load_settings(None, {"evaluate.choose_share": 0.5}, base=settings)
    found = evaluate(detector, manifest[manifest["label"] == 0], half)
    assert found.metrics["cost_chosen_threshold"] is None
    assert "no defective image" in found.not_available["cost_chosen_detection_rate"]


def test_cost_needs_a_defect():
    with pytest.raises(DataError, match="no defective image"):
        cost_optimal([0, 0], [1.0, 2.0], 1, 1)
