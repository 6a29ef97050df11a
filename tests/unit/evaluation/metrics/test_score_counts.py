import numpy as np
import pytest

from reconpatch.evaluation.metrics import score_counts
from reconpatch.evaluation.metrics.score_counts import RunningCounts, ScoreCounts

SCORES = np.array([-3.5e38 / 2, -2.0, -1e-42, -0.0, 0.0, 1e-42, 0.5, 0.5, 7.0, 3e38], np.float32)


def test_every_distinct_score_has_a_bin_in_ascending_order():
    counts = ScoreCounts.of(SCORES)
    assert (np.diff(counts.bins.astype(np.int64)) > 0).all()
    assert counts.lowest.tolist() == np.unique(SCORES).tolist()
    assert not counts.mixed.any()
    assert counts.masses[0].tolist() == [1, 1, 1, 2, 1, 2, 1, 1]


@pytest.mark.parametrize("shift", [1, 9, 14, 23])
def test_coarser_bins_hold_what_lies_between_their_edges(shift):
    scores = np.random.default_rng(0).normal(size=4000).astype(np.float32)
    weights = np.stack([np.ones(4000), np.random.default_rng(1).random(4000)])
    coarse = ScoreCounts.of(scores, weights).coarser(shift)
    place = np.searchsorted(coarse.lowest, scores, side="right") - 1
    np.testing.assert_array_equal(coarse.masses[0], np.bincount(place))
    np.testing.assert_allclose(coarse.masses[1], np.bincount(place, weights[1]))
    for number in range(len(coarse.bins)):
        held = scores[place == number]
        assert coarse.mixed[number] == (np.unique(held).size > 1)
        ratio = held.max() / held.min()
        assert max(ratio, 1 / ratio) <= 1 + 2.0 ** (shift - 23)


def test_sums_are_bounded_and_do_not_depend_on_the_order(monkeypatch):
    monkeypatch.setattr(score_counts, "MOST_BINS", 500)
    parts = np.array_split(np.random.default_rng(2).gamma(2.0, size=30_000).astype(np.float32), 60)
    totals = []
    for order in (parts, parts[::-1]):
        running = RunningCounts()
        for part in order:
            running.add(ScoreCounts.of(part))
            assert sum(len(held.bins) for held in running._parts) <= 4 * 500
        totals.append(running.total())
    first, second = totals
    assert first.shift == second.shift > 0
    assert 250 <= len(first.bins) <= 500, "one bit fewer would be too many"
    np.testing.assert_array_equal(first.bins, second.bins)
    np.testing.assert_array_equal(first.masses, second.masses)
    assert first.masses.sum() == 30_000


def test_few_distinct_scores_stay_exact_however_many_pixels():
    running = RunningCounts()
    for _ in range(50):
        running.add(ScoreCounts.of(np.round(np.linspace(0, 9, 10_000)).astype(np.float32)))
    assert running.total().shift == 0
    assert len(running.total().bins) == 10


def test_no_scores_at_all():
    running = RunningCounts()
    assert running.total() is None
    running.add(ScoreCounts.of(np.empty(0, np.float32)))
    assert len(running.total().bins) == 0
