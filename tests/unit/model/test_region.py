"""What counts of an image: read, moved as images are, kept, and refused where it makes no sense."""

import json

import numpy as np
import pytest
from PIL import Image

from reconpatch.errors import DataError, ModelError
from reconpatch.model.region import Region, read_region
from reconpatch.settings import load_settings

SETTINGS = load_settings(None, {"features.image_size": 64})
GRID = (8, 8)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.png"
    Image.new("RGB", (100, 50)).save(path)
    return path


def write(path, mask):
    Image.fromarray(mask.astype(np.uint8) * 255).save(path)
    return path


def right_half(*shape):
    mask = np.zeros(shape, bool)
    mask[:, shape[1] // 2 :] = True
    return mask


def test_it_is_moved_as_the_images_are(tmp_path, image):
    path = write(tmp_path / "roi.png", right_half(50, 100))
    np.testing.assert_array_equal(read_region(path, [image], SETTINGS, GRID).pixels, right_half(64, 64))
    cropped = load_settings(None, {"features.image_size": 64, "features.resize": 80})
    np.testing.assert_array_equal(read_region(path, [image], cropped, GRID).pixels, right_half(64, 64))


def test_patches_count_that_lie_at_least_half_inside():
    pixels = np.zeros((64, 64), bool)
    pixels[8:16, 4:20] = True
    pixels[40:43, 40:48] = True
    region = Region(pixels)
    assert [tuple(place) for place in np.argwhere(region.cells(GRID))] == [(1, 0), (1, 1), (1, 2)]
    np.testing.assert_array_equal(region.patches(GRID), [8, 9, 10])
    features = np.arange(64 * 2).reshape(1, 64, 2)
    np.testing.assert_array_equal(region.take(features, GRID), features[:, 8:11])
    assert region.share == pytest.approx((8 * 16 + 3 * 8) / 64**2)


@pytest.mark.parametrize("seed", range(4))
def test_round_trip_through_json(seed):
    pixels = np.random.default_rng(seed).random((32, 32)) < 0.3
    pixels[0, 0], pixels[-1, -1] = seed % 2, seed // 2
    again = Region.from_dict(json.loads(json.dumps(Region(pixels).to_dict())))
    np.testing.assert_array_equal(again.pixels, pixels)
    assert again == Region(pixels)
    assert again != Region(~pixels)


@pytest.mark.parametrize(
    "values",
    [None, {}, {"side": 4, "runs": [0, 15]}, {"side": 4, "runs": [16]}, {"side": 4, "runs": [-1, 17]},
     {"side": "x", "runs": [0, 16]}, {"side": 2, "runs": [[0, 4]]}],
)  # fmt: skip
def test_what_is_no_region_is_refused(values):
    with pytest.raises(ModelError, match="region of interest"):
        Region.from_dict(values)


def test_a_mask_of_another_size_is_named(tmp_path, image):
    path = write(tmp_path / "roi.png", right_half(100, 50))
    with pytest.raises(DataError, match=r"roi\.png: is 50 x 100 pixels and no training image is"):
        read_region(path, [image], SETTINGS, GRID)


@pytest.mark.parametrize("side", [0, 2])
def test_a_mask_that_leaves_no_patch_is_named(tmp_path, image, side):
    mask = np.zeros((50, 100), bool)
    mask[:side, :side] = True
    with pytest.raises(DataError, match=r"roi\.png: leaves no patch"):
        read_region(write(tmp_path / "roi.png", mask), [image], SETTINGS, GRID)


def test_an_unreadable_mask_is_named(tmp_path, image):
    (tmp_path / "roi.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"roi\.png"):
        read_region(tmp_path / "roi.png", [image], SETTINGS, GRID)
    with pytest.raises(DataError, match=r"gone\.png"):
        read_region(tmp_path / "gone.png", [image], SETTINGS, GRID)
