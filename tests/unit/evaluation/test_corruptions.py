"""Disturbances keep shapes, repeat by seed, stay within their strengths, and take masks along."""

import numpy as np
import pytest

from reconpatch.evaluation.corruptions import CORRUPTIONS

BY_NAME = {corruption.name: corruption for corruption in CORRUPTIONS}


def picture(height=60, width=80):
    """A grey ground with a bright block, which is the defect."""
    image = np.full((height, width, 3), 100, np.uint8)
    mask = np.zeros((height, width), bool)
    mask[20:36, 30:50] = True
    image[mask] = 220
    return image, mask


@pytest.mark.parametrize("name", BY_NAME)
def test_same_seed_same_bytes_other_seed_other_bytes(name):
    image, mask = picture(120, 160)
    first, again, other = (BY_NAME[name](image, mask, seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert first[0].shape == image.shape
    assert first[0].dtype == np.uint8
    assert first[1].shape == mask.shape
    assert (first[0] != image).any()
    if name != "blur":
        assert (first[0] != other[0]).any()


@pytest.mark.parametrize("name", ["rotation", "translation"])
def test_what_moves_the_image_moves_its_mask(name):
    image, mask = picture()
    moved_away = 0
    for seed in range(10):
        changed, moved = BY_NAME[name](image, mask, seed)
        bright = changed[:, :, 0] > 160
        assert (bright != moved).sum() <= 0.15 * mask.sum(), "but for the edge, the mask lies on the block"
        moved_away += int((moved & ~mask).any())
    assert moved_away >= 8


@pytest.mark.parametrize("name", ["brightness and contrast", "blur", "lighting gradient", "sensor noise"])
def test_what_changes_light_alone_leaves_the_mask(name):
    image, mask = picture()
    np.testing.assert_array_equal(BY_NAME[name](image, mask, 0)[1], mask)


def test_shifts_are_at_most_a_twentieth_of_the_side():
    image, mask = picture(100, 100)
    image[:], mask[:] = 0, False
    image[50, 50] = 255
    for seed in range(20):
        changed, _ = BY_NAME["translation"](image, mask, seed)
        row, column = np.argwhere(changed[:, :, 0] == changed[:, :, 0].max())[0]
        assert abs(row - 50) <= 5.5
        assert abs(column - 50) <= 5.5


def test_noise_has_its_stated_spread_and_grey_stays_grey():
    image, mask = np.full((200, 200, 3), 100, np.uint8), np.zeros((200, 200), bool)
    changed, _ = BY_NAME["sensor noise"](image, mask, 0)
    assert changed[:, :, 0].std() == pytest.approx(np.sqrt(16 + 25), rel=0.03)
    assert (changed == changed[:, :, :1]).all()


def test_the_lighting_gradient_is_a_plane_of_a_fifth():
    image, mask = np.full((50, 50, 3), 100, np.uint8), np.zeros((50, 50), bool)
    changed = BY_NAME["lighting gradient"](image, mask, 1)[0][:, :, 0].astype(float)
    assert (changed.min(), changed.max()) == (80, 120)
    assert np.abs(np.diff(changed, 2, axis=0)).max() <= 1
    assert np.abs(np.diff(changed, 2, axis=1)).max() <= 1
