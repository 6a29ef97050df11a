"""The covering radius against the true optimum, which on a line can be found by brute force."""

from itertools import combinations

import numpy as np
import pytest

from reconpatch.coreset.k_center import k_center_greedy
from reconpatch.coreset.merge_reduce import select_coreset, working_bytes
from reconpatch.coreset.textbook import covering_radius


def _optimum_on_a_line(points, size):
    """Smallest radius of ``size`` intervals, centred anywhere, that cover all points."""
    line = np.sort(points.ravel().astype(np.float64))
    cuts = combinations(range(1, len(line)), size - 1)
    return min(max(np.ptp(part) / 2 for part in np.split(line, cut)) for cut in cuts)


def _line(count, seed):
    return np.random.default_rng(seed).normal(size=(count, 1)).astype(np.float32)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_exact_selection_covers_within_twice_the_optimum(size):
    ratios = []
    for seed in range(25):
        points = _line(11, seed)
        chosen = points[k_center_greedy(points, size, seed=seed)]
        ratios.append(covering_radius(points, chosen) / _optimum_on_a_line(points, size))
    assert max(ratios) <= 2 + 1e-6
    assert min(ratios) >= 1 - 1e-6


@pytest.mark.parametrize(("vectors_in_budget", "bound"), [(16, 4), (8, 10)])
def test_merge_reduce_covers_within_its_stated_multiple_of_the_optimum(vectors_in_budget, bound):
    """18 points in chunks of 8: 4 OPT. In chunks of 4 the union of 2 each outgrows its half 3 times."""
    ratios = []
    for seed in range(25):
        points = _line(18, seed)
        budget = vectors_in_budget * working_bytes(1)
        chosen = select_coreset(np.array_split(points, 3), 18, 2, seed=seed, memory_budget=budget)
        assert chosen.shape == (2, 1)
        assert set(chosen.ravel()) <= set(points.ravel())
        ratios.append(covering_radius(points, chosen) / _optimum_on_a_line(points, 2))
    assert max(ratios) <= bound
    assert np.median(ratios) <= 2.5, "far below the bound, which only the worst order of points reaches"


def test_a_memory_map_in_half_precision_is_selected_as_the_array(tmp_path):
    points = np.random.default_rng(0).normal(size=(800, 70)).astype(np.float16)
    np.save(tmp_path / "points.npy", points)
    mapped = np.load(tmp_path / "points.npy", mmap_mode="r")
    np.testing.assert_array_equal(
        k_center_greedy(mapped, 60, seed=4), k_center_greedy(points.astype(np.float32), 60, seed=4)
    )
    np.testing.assert_array_equal(mapped, points)
