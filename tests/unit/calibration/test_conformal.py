"""Conformal prediction by groups against the definition, one image at a time."""

import numpy as np
import pytest

from reconpatch.calibration.conformal import NominalScores
from reconpatch.calibration.threshold import conformal_threshold
from reconpatch.errors import DataError, SettingsError

SCORES = [1.0, 4.0, 2.0, 6.0, 5.0, 3.0]
GROUPS = ["a", "a", "b", "b", "b", "c"]


def _p_value(scores, groups, new):
    names = sorted(set(groups))
    above = [np.mean([s >= new for s, g in zip(scores, groups, strict=True) if g == name]) for name in names]
    return (1 + sum(above)) / (len(names) + 1)


def _quantile(scores, groups, rate):
    names = sorted(set(groups))
    for value in sorted(scores):
        below = [np.mean([s <= value for s, g in zip(scores, groups, strict=True) if g == n]) for n in names]
        if sum(below) >= (len(names) + 1) * (1 - rate) - 1e-9:
            return value
    return None


@pytest.mark.parametrize("rate", [0.25, 0.3, 0.4, 0.5, 0.6, 0.9])
def test_quantile_of_groups_is_the_definition(rate):
    nominal = NominalScores.from_scores(SCORES, GROUPS)
    assert nominal.groups == 3
    assert nominal.quantile(rate) == _quantile(SCORES, GROUPS, rate)


def test_quantile_by_hand():
    # Weights: a 1/2 each, b 1/3 each, c 1. Up to 4: 1/2 + 1/2 + 1/3 + 1 = 2.33; up to 5: 2.67; up to 6: 3.
    nominal = NominalScores.from_scores(SCORES, GROUPS)
    assert nominal.quantile(1 - 2.3 / 4) == 4
    assert nominal.quantile(1 - 2.6 / 4) == 5
    assert nominal.quantile(0.25) == 6
    assert nominal.quantile(0.24) is None


@pytest.mark.parametrize("new", [0.5, 1, 3, 3.5, 6, 7])
def test_false_reject_probability_is_the_definition(new):
    nominal = NominalScores.from_scores(SCORES, GROUPS)
    assert nominal.false_reject_probability(new) == pytest.approx(_p_value(SCORES, GROUPS, new))


def test_probability_is_at_most_the_rate_exactly_above_the_threshold():
    rng = np.random.default_rng(0)
    for _ in range(200):
        scores = rng.integers(0, 12, 30).astype(float)
        nominal = NominalScores.from_scores(scores, rng.integers(0, 15, 30).astype(str).tolist())
        rate = rng.uniform(1 / (nominal.groups + 1), 0.9)
        threshold = conformal_threshold(nominal, rate).value
        for new in np.arange(-0.5, 13, 0.5):
            assert (nominal.false_reject_probability(new) <= rate + 1e-12) == (new > threshold)


def test_groups_of_one_are_plain_split_conformal():
    scores = np.random.default_rng(1).random(59)
    grouped = NominalScores.from_scores(scores, [str(i) for i in range(59)])
    assert conformal_threshold(grouped, 0.1) == conformal_threshold(scores, 0.1)


def test_promise_holds_for_an_image_of_a_new_group_where_images_as_groups_would_break_it():
    """Groups that differ a lot: counting images instead of groups rejects more than was asked."""
    rng = np.random.default_rng(2)
    by_group, by_image = [], []
    for _ in range(3000):
        sizes = rng.choice([1, 2, 30], size=19)
        level = rng.exponential(size=20) * np.append(np.where(sizes == 30, 1.0, 2.0), 0)
        level[-1] = rng.exponential() * rng.choice([2.0, 2.0, 1.0])
        groups = np.repeat(np.arange(19), sizes)
        scores = level[groups] + 0.01 * rng.random(groups.size)
        names = groups.astype(str).tolist()
        new = level[-1] + 0.01 * rng.random()
        by_group.append(new > conformal_threshold(NominalScores.from_scores(scores, names), 0.1).value)
        by_image.append(new > conformal_threshold(scores, 0.1).value)
    assert np.mean(by_group) <= 0.1 + 2 * np.sqrt(0.09 / 3000)
    assert np.mean(by_image) > 0.13


def test_a_rate_counts_groups_and_not_images():
    scores = np.arange(200.0)
    groups = [str(i // 10) for i in range(200)]
    with pytest.raises(SettingsError, match=r"20 held-out groups .* hold out 99 or more"):
        conformal_threshold(NominalScores.from_scores(scores, groups), 0.01)
    assert conformal_threshold(NominalScores.from_scores(scores, groups)).n == 20


def test_groups_must_be_one_each():
    with pytest.raises(DataError, match="3 nominal scores and 2 groups"):
        NominalScores.from_scores([1.0, 2.0, 3.0], ["a", "b"])
