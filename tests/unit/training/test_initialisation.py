"""Statistics of the input and the starting weights."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from reconpatch.errors import DataError
from reconpatch.training.initialisation import (
    input_statistics,
    isometry_weight,
    random_weight,
    whitened_weight,
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
def test_narrow_start_is_the_principal_directions_of_scikit_learn(rows):
    scales = [5.0, 1.0, 3.0, 0.5, 2.0]
    features = (np.random.default_rng(0).normal(4, 1, (rows, 5)) * scales).astype(np.float32)
    weight = whitened_weight(features, 3, 0.0, generator()).numpy()
    expected = PCA(3).fit(features).components_
    tolerance = 1e-5 if rows == 300 else 0.02  # beyond 20,000 patches a sample of them is taken
    np.testing.assert_allclose(np.abs((weight * expected).sum(1)), 1, atol=tolerance)
    np.testing.assert_allclose(weight @ weight.T, np.eye(3), atol=1e-6)


def correlated(rows=4000):
    drawn = np.random.default_rng(0).normal(size=(rows, 4)) * [4.0, 2.0, 1.0, 0.5]
    return (drawn @ np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))[0]).astype(np.float32)


def test_a_whole_whitening_gives_mahalanobis_distances():
    features = correlated()
    out = features @ whitened_weight(features, 6, 1.0, generator()).numpy().T
    inverse = np.linalg.inv(np.cov(features.T, ddof=0))
    pairs = features[:50, None] - features[50:100]
    expected = np.sqrt(np.einsum("ijd,de,ije->ij", pairs, inverse, pairs))
    ratio = np.linalg.norm(out[:50, None] - out[50:100], axis=2) / expected
    np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-4)


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_a_part_of_a_whitening_flattens_the_spectrum_by_that_power_and_keeps_its_sum(share):
    features = correlated()
    before = np.linalg.eigvalsh(np.cov(features.T, ddof=0))
    out = features @ whitened_weight(features, 7, share, generator()).numpy().T
    after = np.linalg.eigvalsh(np.cov(out.T, ddof=0))[-4:]
    expected = before ** (1 - share)
    np.testing.assert_allclose(after, expected * before.sum() / expected.sum(), rtol=1e-4)
    narrow = features @ whitened_weight(features, 2, share, generator()).numpy().T
    np.testing.assert_allclose(np.linalg.eigvalsh(np.cov(narrow.T, ddof=0)), after[-2:], rtol=1e-4)


def test_no_whitening_is_the_isometry_itself():
    assert torch.equal(
        whitened_weight(correlated(), 9, 0.0, generator(5)), isometry_weight(4, 9, generator(5))
    )


@pytest.mark.parametrize("dim", [4, 8])
def test_equal_patches_are_not_whitened(dim):
    weight = whitened_weight(np.ones((2, 6), np.float16), dim, 1.0, generator())
    gram = weight @ weight.T if dim < 6 else weight.T @ weight
    torch.testing.assert_close(gram, torch.eye(min(dim, 6)), atol=1e-6, rtol=0)


def test_a_direction_without_variance_is_not_blown_up():
    features = correlated()
    features[:, 0] = 3.0
    weight = whitened_weight(features, 4, 1.0, generator())
    # At most (1 / 1e-4)^(1/2) times the mean direction's factor.
    assert weight.norm(dim=0).max() < 1e3


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
