"""Which patches of which images train f for several categories."""

import numpy as np
import pytest

from reconpatch.features.feature_cache import FeatureCache
from reconpatch.features.patch_features import PatchFeatures
from reconpatch.fit import NominalImages
from reconpatch.settings import load_settings
from reconpatch.unified import unified_training
from reconpatch.unified.unified_training import (
    gather,
    share_out,
    split_validation,
    train_on_all,
)


def images(tmp_path, name, groups):
    """Features of an image a group; its patches hold nothing but the image's number."""
    digests = tuple(f"{name}-{i}" for i in range(len(groups)))
    cache = FeatureCache(tmp_path)
    made = PatchFeatures(digests, digests, (2, 2), 3, "net", "here", cache, lambda: None)
    for i in range(len(groups)):
        cache.put(made._entry(i), np.full((4, 3), i, np.float16))
    return NominalImages(made, groups)


@pytest.mark.parametrize(
    ("sizes", "most", "expected"),
    [
        ([5, 5], 100, [5, 5]),
        ([50, 50], 60, [30, 30]),
        ([100, 4, 50], 64, [30, 4, 30]),
        ([7, 100, 9], 60, [7, 44, 9]),
        ([3], 2, [2]),
    ],
)
def test_rows_are_shared_out_evenly_and_none_is_wasted(sizes, most, expected):
    assert share_out(sizes, most) == expected


def test_what_is_gathered_lies_part_after_part_within_the_bytes(tmp_path):
    parts = [images(tmp_path, name, [*"abcdefgh"[:n]]).features for name, n in (("x", 8), ("y", 2))]
    rows, counts = gather(parts, max_bytes=20 * 6, seed=0)
    assert counts == [12, 8]
    assert rows.shape == (20, 3)
    assert set(rows[12:, 0].tolist()) == {0, 1}
    everything, counts = gather(parts, max_bytes=10_000, seed=0)
    assert counts == [32, 8]
    np.testing.assert_array_equal(everything[32:], parts[1].as_array())


def test_whole_groups_watch_and_do_not_train(tmp_path):
    groups = [*"aabbccddee"]
    settings = load_settings(None, {"unified.validation": 0.2})
    train, watch = split_validation(images(tmp_path, "x", groups), settings)
    assert len(watch) == 2
    assert len(train) == 8
    letters = [{groups[int(digest[2:])] for digest in part.image_digests} for part in (train, watch)]
    assert letters[0].isdisjoint(letters[1])


def test_early_stopping_is_by_the_images_set_aside(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        unified_training, "train_modulation", lambda rows, _, **given: seen.update(given, rows=rows)
    )
    fit = {name: images(tmp_path, name, [*"abcdefghij"]) for name in ("x", "y")}
    train_on_all(fit, load_settings(None, {"unified.validation": 0.2, "unified.patience": 3}))
    assert (len(seen["rows"]), seen["parts"], len(seen["validation"]), seen["patience"]) == (
        64,
        [32, 32],
        16,
        3,
    )
    for start in (0, 32):
        trained = set(seen["rows"][start : start + 32, 0].tolist())
        watched = set(seen["validation"][start // 4 : start // 4 + 8, 0].tolist())
        assert trained.isdisjoint(watched)
        assert trained | watched == set(range(10))
    train_on_all(fit, load_settings(None, {"unified.validation": 0}))
    assert (seen["validation"], seen["patience"], len(seen["rows"])) == (None, None, 80)
