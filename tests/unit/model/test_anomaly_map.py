import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.transform import resize

from reconpatch.errors import DataError
from reconpatch.model.anomaly_map import anomaly_maps

SCORES = np.random.default_rng(0).random((3, 28, 28)).astype(np.float32)


@pytest.mark.parametrize(("size", "sigma"), [(224, 4.0), (320, 4.0), (224, 1.5), (64, 40.0)])
def test_blur_is_scipys_gaussian_with_sigma_scaled_to_the_size(size, sigma):
    sharp = anomaly_maps(SCORES, size, 0)
    expected = [gaussian_filter(one.astype(np.float64), sigma * size / 224, mode="reflect") for one in sharp]
    np.testing.assert_allclose(anomaly_maps(SCORES, size, sigma), expected, atol=1e-6)


@pytest.mark.parametrize(("shape", "size"), [((28, 28), 224), ((40, 40), 320), ((7, 14), 98)])
def test_upsampling_is_bilinear_between_patch_centres(shape, size):
    scores = np.random.default_rng(1).random((2, *shape)).astype(np.float32)
    expected = [resize(one, (size, size), order=1, mode="edge", anti_aliasing=False) for one in scores]
    maps = anomaly_maps(scores, size, 0)
    assert maps.shape == (2, size, size)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps, expected, atol=1e-5)


def test_by_hand():
    """Two patches side by side on 4 pixels: centres at 0.5 and 2.5, linear between, constant outside."""
    maps = anomaly_maps(np.array([[[0.0, 1.0], [0.0, 1.0]]], dtype=np.float32), 4, 0)
    np.testing.assert_allclose(maps[0], np.tile([0, 0.25, 0.75, 1], (4, 1)))


def test_constant_scores_give_a_constant_map():
    maps = anomaly_maps(np.full((1, 5, 5), 7.5, dtype=np.float32), 100, 4.0)
    np.testing.assert_allclose(maps, 7.5, rtol=1e-5)


def test_a_batch_is_the_same_as_one_after_the_other():
    together = anomaly_maps(SCORES, 224, 4.0)
    apart = np.concatenate([anomaly_maps(one[None], 224, 4.0) for one in SCORES])
    np.testing.assert_allclose(together, apart, atol=1e-6)


def test_no_images():
    assert anomaly_maps(SCORES[:0], 224, 4.0).shape == (0, 224, 224)


@pytest.mark.parametrize("shape", [(28, 28), (1, 1, 28, 28), (2, 0, 28)])
def test_wrong_shape(shape):
    with pytest.raises(DataError, match=r"must be \(B, h, w\)"):
        anomaly_maps(np.zeros(shape, np.float32), 224, 4.0)


@pytest.mark.parametrize(
    ("shape", "size", "sigma"),
    [((28, 28), 224, 4.0), ((40, 40), 320, 4.0), ((5, 9), 61, 3.0), ((4, 4), 4, 600.0), ((1, 1), 30, 4.0)],
)
def test_is_torchs_bilinear_then_scipys_gaussian(shape, size, sigma):
    """Up to a Gaussian wider than the map, which is mirrored more than once."""
    scores = np.random.default_rng(2).random((2, *shape)).astype(np.float32)
    upsampled = torch.nn.functional.interpolate(
        torch.from_numpy(scores.astype(np.float64))[:, None],
        (size, size),
        mode="bilinear",
        align_corners=False,
    )[:, 0].numpy()
    expected = [gaussian_filter(one, sigma * size / 224) for one in upsampled]
    np.testing.assert_allclose(anomaly_maps(scores, size, sigma), expected, atol=1e-6)


def test_without_blur_at_the_size_of_the_grid_the_map_is_the_scores():
    np.testing.assert_array_equal(anomaly_maps(SCORES, 28, 0), SCORES)


def test_the_border_neither_fades_nor_gains():
    """Mirrored about its edge, what the Gaussian pushes out over a border comes back in over it."""
    scores = np.zeros((1, 28, 28), dtype=np.float32)
    scores[0, 0, 0] = 1
    sharp, smooth = (anomaly_maps(scores, 224, sigma) for sigma in (0, 4.0))
    assert smooth.sum() == pytest.approx(sharp.sum(), rel=1e-5)
    assert smooth.argmax() == 0


def test_a_defect_stays_in_its_image_and_place():
    scores = np.zeros((2, 8, 8), dtype=np.float32)
    scores[1, 1, 6] = 1
    maps = anomaly_maps(scores, 64, 4.0)
    assert not maps[0].any()
    row, column = np.unravel_index(maps[1].argmax(), (64, 64))
    assert (row // 8, column // 8) == (1, 6)


def test_other_types_and_memory_orders_give_the_same_map():
    other = np.asfortranarray(SCORES.astype(np.float64))
    np.testing.assert_array_equal(anomaly_maps(other, 64, 4.0), anomaly_maps(SCORES, 64, 4.0))
