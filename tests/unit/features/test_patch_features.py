import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from reconpatch.data.images import read_image
from reconpatch.errors import DataError, ModelError
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.features.patch_features import PatchFeatures, extract_features
from reconpatch.model.patch_extractor import PatchExtractor
from reconpatch.model.preprocess import prepare_image

_CPU = torch.device("cpu")


@pytest.fixture
def files(tmp_path):
    generator = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    paths = []
    for i in range(6):
        paths.append(folder / f"{i}.png")
        Image.fromarray(generator.integers(0, 256, (70, 80, 3), dtype=np.uint8)).save(paths[-1])
    return paths


@pytest.fixture
def cache(tmp_path):
    return FeatureCache(tmp_path / "cache")


def expected(extractor, paths):
    return extractor(np.stack([prepare_image(read_image(path), extractor.settings) for path in paths]))


def blocks_on_disk(cache):
    return [path for path in cache.root.rglob("*") if path.is_file()]


def counted(monkeypatch):
    """A list that grows by the number of images of each extraction."""
    calls = []
    original = PatchExtractor.__call__
    monkeypatch.setattr(
        PatchExtractor, "__call__", lambda self, images: calls.append(len(images)) or original(self, images)
    )
    return calls


def test_blocks_are_the_extractors_features_in_the_order_of_the_paths(files, extractor, cache):
    features = extract_features(files, extractor, cache)
    wanted = expected(extractor, files)
    assert len(features) == 6
    assert features.grid == (8, 8)
    assert features.dim == 152
    np.testing.assert_array_equal(np.stack(list(features.blocks())), wanted)
    np.testing.assert_array_equal(features.block(4), wanted[4])
    np.testing.assert_array_equal(features.as_array(), wanted.reshape(6 * 64, 152))
    assert features.as_array().dtype == np.float16


@pytest.mark.parametrize("rows", [[], [0, 63, 64, 65, 200, 383], [300], [5, 5, 6]])
def test_chosen_patches_are_rows_of_all(files, extractor, cache, rows):
    features = extract_features(files, extractor, cache)
    taken = features.take(np.array(rows, dtype=np.int64))
    np.testing.assert_array_equal(taken, features.as_array()[rows])
    assert taken.dtype == np.float16


@pytest.mark.parametrize("rows", [[384], [-1], [2, 1]])
def test_rows_that_are_not_there_or_not_in_order(files, extractor, cache, rows):
    features = extract_features(files, extractor, cache)
    with pytest.raises(ValueError, match="ascending and below 384"):
        features.take(np.array(rows))


def test_only_what_the_cache_lacks_is_computed(files, extractor, cache, monkeypatch):
    calls = counted(monkeypatch)
    extract_features(files[:4], extractor, cache)
    extract_features(files, extractor, cache)
    extract_features(files, extractor, cache)
    assert calls == [4, 2]


def test_the_same_content_is_computed_once_wherever_it_lies(files, extractor, cache, monkeypatch, tmp_path):
    calls = counted(monkeypatch)
    shutil.copy(files[0], tmp_path / "copy.png")
    features = extract_features([files[0], tmp_path / "copy.png", files[0]], extractor, cache)
    assert sum(calls) == 1
    assert len(set(features.keys)) == 1
    assert len(features.as_array()) == 3 * 64


def test_other_parameters_have_other_keys(files, extractor, cache, small):
    other = PatchExtractor(small.model_copy(update={"patch_size": 1}), _CPU)
    first, second = (extract_features(files, each, cache) for each in (extractor, other))
    assert not set(first.keys) & set(second.keys)
    assert first.image_digests == second.image_digests
    np.testing.assert_array_equal(first.block(0), expected(extractor, files)[0])


def test_another_platform_does_not_share_last_bits_but_has_the_same_keys(
    files, extractor, cache, monkeypatch
):
    calls = counted(monkeypatch)
    keys = extract_features(files, extractor, cache).keys
    monkeypatch.setattr(extractor, "platform", "another machine")
    assert extract_features(files, extractor, cache).keys == keys
    assert sum(calls) == 12


@pytest.mark.parametrize("damage", ["removed", "cut", "whole folder"])
def test_a_lost_block_is_computed_again(files, extractor, cache, damage):
    features = extract_features(files, extractor, cache)
    wanted = features.as_array()
    if damage == "whole folder":
        shutil.rmtree(cache.root)
    else:
        for path in blocks_on_disk(cache)[::2]:
            path.unlink() if damage == "removed" else path.write_bytes(path.read_bytes()[:99])
    np.testing.assert_array_equal(features.block(3), wanted[3 * 64 : 4 * 64])
    np.testing.assert_array_equal(features.as_array(), wanted)
    assert len(blocks_on_disk(cache)) == 6


def test_a_cache_too_small_for_the_images_still_gives_every_block(files, extractor, tmp_path):
    tight = FeatureCache(tmp_path / "tight", max_bytes=2 * (64 + 64 * 152 * 2))
    features = extract_features(files, extractor, tight)
    np.testing.assert_array_equal(features.as_array(), expected(extractor, files).reshape(6 * 64, 152))


def test_a_lost_block_whose_image_has_changed_is_an_error(files, extractor, cache):
    features = extract_features(files, extractor, cache)
    Image.new("RGB", (70, 80)).save(files[2])
    assert features.block(2).shape == (64, 152)  # the block of the bytes that were indexed is still there
    shutil.rmtree(cache.root)
    with pytest.raises(DataError, match=r"2\.png: has changed since its features were indexed"):
        features.block(2)
    np.testing.assert_array_equal(features.block(1), expected(extractor, files[1:2])[0])


def test_an_image_that_changes_while_it_is_read_is_an_error(files, extractor, cache, monkeypatch):
    monkeypatch.setattr("reconpatch.features.patch_features.image_digest", lambda _: "0" * 64)
    with pytest.raises(DataError, match=r"0\.png: has changed"):
        extract_features(files[:1], extractor, cache)
    assert not cache.root.exists()


@pytest.mark.parametrize("content", [None, b"", b"not an image"])
def test_a_file_that_cannot_be_read_is_named(files, extractor, cache, content):
    files[3].unlink()
    if content is not None:
        files[3].write_bytes(content)
    with pytest.raises(DataError, match=r"3\.png"):
        extract_features(files, extractor, cache)


def test_a_subset_keeps_the_order_asked_for(files, extractor, cache):
    features = extract_features(files, extractor, cache)
    chosen = features.subset(np.array([4, 1]))
    assert chosen.paths == (files[4], files[1])
    assert chosen.keys == (features.keys[4], features.keys[1])
    np.testing.assert_array_equal(chosen.block(0), features.block(4))
    assert chosen.subset([]).as_array().shape == (0, 152)


def test_an_index_finds_the_blocks_without_network_or_images(files, extractor, cache, small, monkeypatch):
    features = extract_features(files, extractor, cache)
    wanted = features.as_array()
    index = json.loads(json.dumps(features.to_index(files[0].parent)))
    assert index["images"][5]["path"] == "5.png"
    monkeypatch.setattr(PatchExtractor, "__init__", lambda *_: pytest.fail("the network was loaded"))
    for path in files:
        path.rename(path.with_suffix(".moved"))
    again = PatchFeatures.from_index(index, files[0].parent, cache, small, _CPU)
    assert (again.keys, again.grid, again.dim) == (features.keys, features.grid, features.dim)
    np.testing.assert_array_equal(again.as_array(), wanted)


def test_an_index_computes_again_what_the_cache_lost(files, extractor, cache, small):
    features = extract_features(files, extractor, cache)
    wanted = features.as_array()
    again = PatchFeatures.from_index(features.to_index(files[0].parent), files[0].parent, cache, small, _CPU)
    shutil.rmtree(cache.root)
    np.testing.assert_array_equal(again.as_array(), wanted)


def test_an_index_of_other_parameters_is_not_mixed_with_these(files, extractor, cache, small):
    index = extract_features(files, extractor, cache).to_index(files[0].parent)
    shutil.rmtree(cache.root)
    other = small.model_copy(update={"patch_size": 1})
    with pytest.raises(ModelError, match="indexed with other weights or `features` parameters"):
        PatchFeatures.from_index(index, files[0].parent, cache, other, _CPU).block(0)


def test_paths_outside_the_root_keep_their_own(files, extractor, cache, tmp_path):
    index = extract_features(files[:1], extractor, cache).to_index(tmp_path / "elsewhere")
    assert index["images"][0]["path"] == files[0].as_posix()


@pytest.mark.real_images
def test_real_images_give_the_same_bytes_from_cold_and_warm_caches(real_images, extractor, tmp_path):
    paths = sorted((real_images / "mvtec" / "bottle" / "train" / "good").iterdir())[:4]
    paths += sorted((real_images / "magnetic_tile" / "magnetic_tile" / "train" / "good").iterdir())[:4]
    first = extract_features(paths, extractor, FeatureCache(tmp_path / "a"))
    warm = extract_features(paths, extractor, FeatureCache(tmp_path / "a"))
    cold = extract_features(paths[::-1], extractor, FeatureCache(tmp_path / "b"))
    assert first.as_array().tobytes() == warm.as_array().tobytes()
    assert first.as_array().tobytes() == cold.subset(range(7, -1, -1)).as_array().tobytes()


def test_features_of_images_known_by_content_alone(files, extractor, cache, tmp_path):
    features = extract_features(files[:4], extractor, cache)
    others = extract_features(files[4:], extractor, FeatureCache(tmp_path / "other"))
    wanted = [*features.image_digests[1:3], *others.image_digests, "f" * 64]
    found = features.of_content(wanted, {others.image_digests[1]: files[5]})
    assert found.image_digests == (*features.image_digests[1:3], others.image_digests[1])
    np.testing.assert_array_equal(found.block(0), features.block(1))
    np.testing.assert_array_equal(found.block(2), others.block(1))
    assert len(features.of_content(["f" * 64])) == 0
