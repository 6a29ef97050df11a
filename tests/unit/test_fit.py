"""Steps of a fit that the detector's own tests do not pin down."""

import numpy as np
import pytest

from reconpatch.device import choose_device
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.features.patch_features import PatchFeatures
from reconpatch.training.fit_modulation import sample_patches

_GRID, _DIM = (2, 3), 4


@pytest.fixture
def features(tmp_path):
    """Five images of six patches; each patch holds its own number."""
    cache = FeatureCache(tmp_path)
    index = {
        "extractor": "e",
        "grid": list(_GRID),
        "dim": _DIM,
        "images": [{"path": f"{i}.png", "sha256": f"{i}"} for i in range(5)],
    }
    found = PatchFeatures.from_index(index, tmp_path, cache, None, choose_device("cpu"))
    for i in range(5):
        cache.put(found._entry(i), np.arange(6 * i, 6 * i + 6, dtype=np.float16)[:, None].repeat(_DIM, 1))
    return found


def test_all_patches_where_they_fit(features):
    for max_bytes in (2 * _DIM * 30, 1 << 20):
        np.testing.assert_array_equal(sample_patches(features, max_bytes, 0), features.as_array())


def test_a_sample_is_within_its_bytes_without_repeats_and_by_the_seed(features):
    taken = sample_patches(features, 2 * _DIM * 7 + 5, 0)
    assert taken.shape == (7, _DIM)
    assert len(set(taken[:, 0])) == 7
    np.testing.assert_array_equal(taken, sample_patches(features, 2 * _DIM * 7 + 5, 0))
    assert set(taken[:, 0]) != set(sample_patches(features, 2 * _DIM * 7 + 5, 1)[:, 0])


def test_every_patch_is_drawn_equally_often(features):
    drawn = np.concatenate([sample_patches(features, 2 * _DIM * 6, seed)[:, 0] for seed in range(500)])
    counts = np.bincount(drawn.astype(int), minlength=30)
    # 500 draws of a fifth: 100 each, standard deviation 9.
    assert np.abs(counts - 100).max() < 45


def test_one_patch_at_least(features):
    assert sample_patches(features, 1, 0).shape == (1, _DIM)
