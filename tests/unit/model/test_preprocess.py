import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from PIL import Image

from reconpatch.errors import DataError
from reconpatch.model.preprocess import prepare_image, prepare_mask
from reconpatch.settings import FeatureSettings


def squash(size):
    return FeatureSettings(image_size=size)


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_image_of_the_right_size_stays_as_it_is():
    image = noise(64, 64, 3)
    np.testing.assert_array_equal(prepare_image(image, squash(64)), image)


@pytest.mark.parametrize("shape", [(150, 90, 3), (40, 300, 3), (20, 30, 3)])
def test_resize_is_pillows_antialiased_bilinear_within_one(shape):
    image = noise(*shape)
    expected = np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BILINEAR))
    prepared = prepare_image(image, squash(64))
    assert prepared.shape == (64, 64, 3)
    assert prepared.dtype == np.uint8
    assert prepared.flags.c_contiguous
    assert np.abs(prepared.astype(int) - expected.astype(int)).max() <= 1


def test_without_resize_the_ends_of_a_long_image_are_seen():
    image = np.zeros((64, 640, 3), np.uint8)
    image[:, :20] = 255
    image[:, -20:] = 255
    prepared = prepare_image(image, squash(64))
    assert prepared[:, 0].min() > 200
    assert prepared[:, -1].min() > 200
    assert prepared[:, 32].max() == 0


def test_with_resize_the_centre_is_cut_out():
    image = noise(80, 120, 3)
    whole = prepare_image(image, squash(80))
    cropped = prepare_image(image, FeatureSettings(image_size=64, resize=80))
    np.testing.assert_array_equal(cropped, whole[8:72, 8:72])


@pytest.mark.parametrize(
    "image", [noise(64, 64), noise(64, 64, 4), noise(64, 64, 3) / 255, np.zeros((0, 4, 3), np.uint8)]
)
def test_anything_but_rgb_bytes_is_refused(image):
    with pytest.raises(DataError, match="must be \\(height, width, 3\\) uint8 RGB"):
        prepare_image(image, squash(64))


def test_a_read_only_image_is_no_cause_for_a_warning():
    image = noise(70, 70, 3)
    image.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert prepare_image(image, squash(64)).shape == (64, 64, 3)


def test_mask_pixels_are_defective_from_half_of_their_area_on():
    mask = np.zeros((128, 128), bool)
    mask[0:2, 0:2] = True  # all of pixel (0, 0)
    mask[0, 4:6] = True  # half of pixel (0, 2)
    mask[9, 8] = True
    mask[8:10, 9:12] = True  # with it three quarters of (4, 4) and all of (4, 5)
    expected = np.zeros((64, 64), bool)
    expected[0, 0] = expected[0, 2] = expected[4, 4] = expected[4, 5] = True
    np.testing.assert_array_equal(prepare_mask(mask, squash(64)), expected)


def test_every_defect_smaller_than_a_pixel_keeps_one_where_it_lies():
    mask = np.zeros((900, 600), bool)
    mask[455, 301] = True
    mask[10:12, 590] = True
    moved = prepare_mask(mask, squash(64))
    assert [tuple(place) for place in np.argwhere(moved)] == [(0, 62), (32, 32)]


def test_a_defect_across_four_pixels_keeps_the_one_that_holds_most_of_it():
    mask = np.zeros((640, 640), bool)
    mask[18:21, 17:22] = True  # 6 of its 15 pixels lie in (1, 1), 4 in (1, 2), 3 in (2, 1), 2 in (2, 2)
    assert [tuple(place) for place in np.argwhere(prepare_mask(mask, squash(64)))] == [(1, 1)]


def test_what_the_crop_cuts_off_is_gone_from_the_mask_too():
    mask = np.zeros((80, 80), bool)
    mask[0:4, 0:4] = True
    assert not prepare_mask(mask, FeatureSettings(image_size=64, resize=80)).any()


def test_a_mask_keeps_the_share_of_its_defective_area():
    rows, columns = np.mgrid[:900, :900]
    mask = (rows - 400) ** 2 + (columns - 500) ** 2 < 150**2
    moved = prepare_mask(mask, squash(224))
    assert moved.mean() == pytest.approx(mask.mean(), rel=0.01)


@limits(max_examples=30, deadline=None)
@given(
    height=st.integers(70, 200),
    width=st.integers(70, 200),
    top=st.integers(0, 30),
    left=st.integers(0, 30),
    resize=st.sampled_from([None, 72]),
)
def test_a_mask_moves_exactly_as_its_image(height, width, top, left, resize):
    parameters = FeatureSettings(image_size=64, resize=resize)
    mask = np.zeros((height, width), bool)
    mask[top : top + 35, left : left + 35] = True
    brightness = prepare_image(np.repeat(255 * mask[..., None].astype(np.uint8), 3, axis=2), parameters)[
        ..., 0
    ]
    moved = prepare_mask(mask, parameters)
    # Near an edge the two filters differ, by less than the width of a pixel.
    assert moved[brightness > 220].all()
    assert not moved[brightness < 35].any()
