"""Eqs. 1 to 6 against naive loops, a hand-worked case and degenerate batches."""

import numpy as np
import pytest
import torch

from reconpatch.training.similarity import (
    combined_similarity,
    contextual_similarity,
    expand_query,
    nearest_neighbours,
    pairwise_similarity,
    raw_contextual_similarity,
    reciprocal_neighbours,
    squared_distances,
)


def random_batch(count, width=6, seed=0):
    return torch.randn(count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def naive_squared(z):
    return np.array([[((a - b) ** 2).sum() for b in z] for a in z])


def naive_neighbours(squared, k):
    sets = []
    for i, row in enumerate(squared):
        others = sorted(row[j] for j in range(len(row)) if j != i)
        reach = others[min(k, len(others)) - 1] if others and k else 0.0
        sets.append({j for j in range(len(row)) if row[j] <= reach})
    return sets


def naive_contextual(squared, k):
    n = len(squared)
    wide, close = naive_neighbours(squared, k), naive_neighbours(squared, k // 2)
    raw = np.zeros((n, n))
    for i in range(n):
        for j in wide[i]:
            raw[i, j] = len(wide[i] & wide[j]) / len(wide[i])
    expanded = np.zeros((n, n))
    for i in range(n):
        reciprocal = [j for j in close[i] if i in close[j]]
        for j in range(n):
            expanded[i, j] = sum(raw[m, j] for m in reciprocal) / len(reciprocal)
    return (expanded + expanded.T) / 2


def as_sets(mask):
    return [set(np.flatnonzero(row)) for row in mask.numpy()]


# On a line at 0, 1, 3, 7 with k = 2 (h = 1), worked by hand.
LINE = torch.tensor([[0.0], [1.0], [3.0], [7.0]])


def test_neighbourhoods_worked_by_hand():
    two, one = nearest_neighbours(squared_distances(LINE), 2, 1)
    assert as_sets(two) == [{0, 1, 2}, {0, 1, 2}, {0, 1, 2}, {1, 2, 3}]
    assert as_sets(one) == [{0, 1}, {0, 1}, {1, 2}, {2, 3}]
    assert as_sets(reciprocal_neighbours(one)) == [{0, 1}, {0, 1}, {2}, {3}]


def test_contextual_similarity_worked_by_hand():
    (two,) = nearest_neighbours(squared_distances(LINE), 2)
    raw = raw_contextual_similarity(two)
    third = 1 / 3
    expected_raw = [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 2 * third, 2 * third, 1]]
    torch.testing.assert_close(raw, torch.tensor(expected_raw))
    # R = {0,1}, {0,1}, {2}, {3}: every e row equals the c row here, and only pairs with 3 are uneven.
    expected = torch.tensor([[1, 1, 1, 0], [1, 1, 1, third], [1, 1, 1, third], [0, third, third, 1]])
    torch.testing.assert_close(contextual_similarity(squared_distances(LINE), 2), expected)


def test_query_expansion_averages_rows_of_c_over_reciprocal_neighbours():
    raw = torch.tensor([[1.0, 0.5, 0.0], [0.25, 1.0, 0.75], [0.0, 0.0, 1.0]])
    reciprocal = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    expected = torch.tensor([[0.625, 0.75, 0.375], [0.625, 0.75, 0.375], [0.0, 0.0, 1.0]])
    torch.testing.assert_close(expand_query(raw, reciprocal), expected)  # C times R would give another


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 7, 23])
@pytest.mark.parametrize("k", [2, 3, 5, 8])
def test_contextual_similarity_equals_naive_loops(count, k):
    squared = squared_distances(random_batch(count, seed=count))
    expected = naive_contextual(squared.numpy(), k)
    np.testing.assert_allclose(contextual_similarity(squared, k).numpy(), expected, atol=1e-6)


def test_contextual_similarity_equals_naive_loops_among_ties():
    grid = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))  # exact squares, many ties
    grid = torch.cat([grid, grid[:3]])  # and some patches twice
    squared = squared_distances(grid.double()).round()
    np.testing.assert_allclose(
        contextual_similarity(squared, 5).numpy(), naive_contextual(naive_squared(grid.numpy()), 5), atol=1e-6
    )


def test_squared_distances_equal_naive_loops():
    z = random_batch(17)
    np.testing.assert_allclose(squared_distances(z).numpy(), naive_squared(z.numpy()), atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("width", [3, 128, 512])
def test_equal_patches_are_at_exactly_zero(dtype, width):
    patch = torch.randn(1, width, generator=torch.Generator().manual_seed(1)).to(dtype) * 50
    assert squared_distances(patch.repeat(301, 1)).eq(0).all()


def test_pairwise_similarity_equals_naive_loop():
    squared = squared_distances(random_batch(9))
    expected = [[np.exp(-d / 2.5) for d in row] for row in squared.numpy()]
    np.testing.assert_allclose(pairwise_similarity(squared, 2.5).numpy(), expected)


def test_sigma_none_is_the_median_over_pairs_of_different_patches():
    squared = squared_distances(random_batch(11))
    others = [squared[i, j].item() for i in range(11) for j in range(11) if i != j]
    median = sorted(others)[(len(others) - 1) // 2]
    torch.testing.assert_close(pairwise_similarity(squared, None), torch.exp(-squared / median))


def test_median_of_a_large_batch_is_close_to_that_of_all_pairs():
    squared = squared_distances(random_batch(400))
    sigma = -squared[0, 1] / pairwise_similarity(squared, None)[0, 1].log()
    assert sigma.item() == pytest.approx(squared[~torch.eye(400, dtype=torch.bool)].median().item(), rel=0.1)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_alpha_weighs_the_pairwise_similarity(alpha):
    z = random_batch(12)
    squared = squared_distances(z)
    expected = alpha * pairwise_similarity(squared, 1.5) + (1 - alpha) * contextual_similarity(squared, 5)
    combined = combined_similarity(z, neighbours=5, alpha=alpha, sigma=1.5)
    torch.testing.assert_close(combined, expected.double())
    torch.testing.assert_close(combined, combined.T)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("count", [1, 2, 4, 40])
def test_equal_patches_are_wholly_alike(count, alpha):
    z = torch.full((count, 8), 0.3)
    combined = combined_similarity(z, neighbours=5, alpha=alpha, sigma=None)
    torch.testing.assert_close(combined, torch.ones(count, count))


def test_fewer_patches_than_neighbours_are_all_neighbours():
    torch.testing.assert_close(contextual_similarity(squared_distances(random_batch(3)), 6), torch.ones(3, 3))


def test_weights_lie_between_0_and_1_in_float32():
    combined = combined_similarity(random_batch(64).float(), neighbours=5, alpha=0.5, sigma=None)
    assert combined.dtype == torch.float32
    assert combined.min() >= 0
    assert combined.max() <= 1
