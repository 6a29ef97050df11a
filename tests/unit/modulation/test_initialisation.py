"""Statistics of the input and the starting weights."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from reconpatch.errors import DataError
from reconpatch.modulation.initialisation import (
    input_statistics,
    isometry_weight,
    principal_weight,
    random_weight,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_statistics_equal_numpy(dtype):
    features = (np.random.default_rng(0).normal(3, 2, (20_000, 5)) * [1, 1, 2, 3, 4]).astype(dtype)
    mean, scale = input_statistics(features)
    wide = features.astype(np.float64)
    np.testing.assert_allclose(mean.numpy(), wide.mean(0), rtol=1e-5)
    assert scale.item() == pytest.approx(np.sqrt(wide.var(0).mean()), rel=1e-5)


def test_equal_patches_have_scale_1():
    mean, scale = input_statistics(np.full((50, 3), 0.1, dtype=np.float16))
    assert scale.item() == 1
    np.testing.assert_allclose(mean.numpy(), np.float16(0.1), rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(bad):
    features = np.ones((10, 3), dtype=np.float16)
    features[4, 1] = bad
    with pytest.raises(DataError, match="NaN or infinite"):
        input_statistics(features)


@pytest.mark.parametrize("dim", [7, 12])
def test_isometry_keeps_every_distance_when_it_does_not_narrow(dim):
    weight = isometry_weight(7, dim, generator())
    assert weight.shape == (dim, 7)
    torch.testing.assert_close(weight.T @ weight, torch.eye(7), atol=1e-6, rtol=0)


def test_narrow_isometry_has_orthogonal_rows_and_keeps_squared_distances_on_the_mean():
    weight = isometry_weight(400, 100, generator())
    torch.testing.assert_close(weight @ weight.T, 4 * torch.eye(100), atol=1e-5, rtol=0)
    points = torch.randn(200, 400, generator=generator(1))
    assert ((points @ weight.T).square().sum() / points.square().sum()).item() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("rows", [300, 30_000])
def test_principal_directions_equal_scikit_learn(rows):
    scales = [5.0, 1.0, 3.0, 0.5, 2.0]
    features = (np.random.default_rng(0).normal(4, 1, (rows, 5)) * scales).astype(np.float32)
    weight = principal_weight(features, 3, generator()).numpy()
    expected = PCA(3).fit(features).components_
    tolerance = 1e-5 if rows == 300 else 0.02  # beyond 20,000 patches a sample of them is taken
    np.testing.assert_allclose(np.abs((weight * expected).sum(1)), 1, atol=tolerance)
    np.testing.assert_allclose(weight @ weight.T, np.eye(3), atol=1e-6)


def test_principal_directions_of_fewer_patches_than_directions_are_orthonormal():
    weight = principal_weight(np.ones((2, 6), np.float16), 4, generator())
    torch.testing.assert_close(weight @ weight.T, torch.eye(4), atol=1e-6, rtol=0)


def test_random_weight_fills_the_usual_range():
    weight = random_weight(100, 300, generator())
    assert weight.shape == (300, 100)
    assert 0.099 < weight.max() <= 0.1
    assert -0.1 <= weight.min() < -0.099


@pytest.mark.parametrize("draw", [isometry_weight, random_weight])
def test_the_generator_alone_decides(draw):
    torch.manual_seed(1)
    first = draw(6, 9, generator(3))
    torch.manual_seed(2)
    assert torch.equal(first, draw(6, 9, generator(3)))
    assert not torch.equal(first, draw(6, 9, generator(4)))
