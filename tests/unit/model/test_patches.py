import numpy as np
import pytest
import torch

from reconpatch.model.patches import aggregate_patches


def make_levels(*shapes):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def neighbourhood(level, row, column, size):
    """(C, s, s) values around a location; zeros beyond the edge."""
    channels, height, width = level.shape
    values = np.zeros((channels, size, size))
    for i in range(size):
        for j in range(size):
            r, c = row + i - size // 2, column + j - size // 2
            if 0 <= r < height and 0 <= c < width:
                values[:, i, j] = level[:, r, c]
    return values


def resized(maps, height, width):
    """Bilinear with pixel centres at (i + 1/2), clamped at the edge; maps (h, w, n)."""
    result = np.empty((height, width, maps.shape[2]))
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * maps.shape[0] / height - 0.5, 0), maps.shape[0] - 1)
            x = min(max((j + 0.5) * maps.shape[1] / width - 0.5, 0), maps.shape[1] - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, maps.shape[0] - 1), min(left + 1, maps.shape[1] - 1)
            upper = maps[top, left] * (1 - (x - left)) + maps[top, right] * (x - left)
            lower = maps[bottom, left] * (1 - (x - left)) + maps[bottom, right] * (x - left)
            result[i, j] = upper * (1 - (y - top)) + lower * (y - top)
    return result


def adaptive(values, bins):
    """Average of values[floor(i n / bins) : ceil((i + 1) n / bins)] for each bin i."""
    n = len(values)
    return np.array([values[i * n // bins : -(-(i + 1) * n // bins)].mean() for i in range(bins)])


def test_average_pool_is_the_naive_loop():
    levels = make_levels((2, 3, 4, 6), (2, 5, 2, 3))
    patches = aggregate_patches(levels, 3, "average_pool")
    assert patches.shape == (2, 4, 6, 8)
    for b in range(2):
        merged = []
        for level in levels:
            array = level[b].numpy()
            _, height, width = array.shape
            means = np.array(
                [
                    [neighbourhood(array, r, c, 3).mean(axis=(1, 2)) for c in range(width)]
                    for r in range(height)
                ]
            )
            merged.append(resized(means, 4, 6))
        np.testing.assert_allclose(patches[b].numpy(), np.concatenate(merged, axis=2), atol=1e-12)


def test_adaptive_is_amazons_order_of_steps_as_a_naive_loop():
    levels = make_levels((1, 3, 3, 3), (1, 130, 2, 2))
    patches = aggregate_patches(levels, 3, "adaptive")
    assert patches.shape == (1, 3, 3, 1024)
    merged = []
    for level in levels:
        array = level[0].numpy()
        channels, height, width = array.shape
        values = np.array(
            [
                [neighbourhood(array, r, c, 3).reshape(channels * 9) for c in range(width)]
                for r in range(height)
            ]
        )
        full = resized(values, 3, 3)
        merged.append([[adaptive(full[r, c], 1024) for c in range(3)] for r in range(3)])
    both = np.concatenate(merged, axis=2)
    expected = [[adaptive(both[r, c], 1024) for c in range(3)] for r in range(3)]
    np.testing.assert_allclose(patches[0].numpy(), np.array(expected), atol=1e-12)


@pytest.mark.parametrize("method", ["average_pool", "adaptive"])
def test_the_grid_is_the_finest_levels_in_whatever_order_levels_come(method):
    fine, coarse = make_levels((1, 2, 6, 6), (1, 2, 3, 3))
    assert aggregate_patches([coarse, fine], 5, method).shape[1:3] == (6, 6)


def test_patch_size_one_leaves_the_values_as_they_are():
    (level,) = make_levels((1, 4, 3, 3))
    torch.testing.assert_close(aggregate_patches([level], 1, "average_pool")[0].permute(2, 0, 1), level[0])


def test_a_corner_counts_what_lies_beyond_the_edge_as_zeros():
    patches = aggregate_patches([torch.ones(1, 1, 3, 3)], 3, "average_pool")[0, :, :, 0]
    torch.testing.assert_close(patches * 9, torch.tensor([[4.0, 6, 4], [6, 9, 6], [4, 6, 4]]))
