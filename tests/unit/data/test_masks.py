"""Ground-truth masks: which pixels are defective."""

import numpy as np
import pytest
from PIL import Image

from reconpatch.data.images import probe_mask, read_mask
from tests.image_files import save

SOFT = np.array([[0, 100, 127, 128, 255]], dtype=np.uint8)


def test_mask_is_what_is_above_the_threshold(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(SOFT))
    assert read_mask(path, 127).tolist() == [[False, False, False, True, True]]
    assert read_mask(path, 99).tolist() == [[False, True, True, True, True]]
    assert read_mask(path, 0).dtype == np.bool_


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_a_mask_of_zeros_and_ones_is_binary(tmp_path, kind):
    path = save(tmp_path / "a.png", Image.fromarray(np.array([[0, 1, 1, 0]], dtype=kind)))
    assert read_mask(path, 127).tolist() == [[False, True, True, False]]


def test_sixteen_bit_masks_with_either_range(tmp_path):
    full = save(tmp_path / "a.png", Image.fromarray(SOFT.astype(np.uint16) * 257))
    eight = save(tmp_path / "b.png", Image.fromarray(SOFT.astype(np.uint16)))
    expected = [[False, False, False, True, True]]
    assert read_mask(full, 127).tolist() == expected
    assert read_mask(eight, 127).tolist() == expected


def test_an_empty_mask_stays_empty(tmp_path):
    path = save(tmp_path / "a.png", Image.new("L", (4, 3)))
    assert not read_mask(path, 0).any()
    probe = probe_mask(path, 127)
    assert (probe.width, probe.height, probe.area, probe.problem) == (4, 3, 0.0, None)


def test_a_coloured_mask_counts_by_its_brightest_channel(tmp_path):
    image = Image.new("RGB", (3, 1))
    image.putpixel((1, 0), (255, 0, 0))
    assert read_mask(save(tmp_path / "a.png", image), 127).tolist() == [[False, True, False]]


def test_what_is_transparent_in_a_mask_is_no_defect(tmp_path):
    image = Image.new("RGBA", (2, 1), (255, 255, 255, 0))
    image.putpixel((1, 0), (255, 255, 255, 255))
    assert read_mask(save(tmp_path / "a.png", image), 127).tolist() == [[False, True]]


def test_mask_probe_gives_the_share_of_defective_pixels(tmp_path):
    assert probe_mask(save(tmp_path / "a.png", Image.fromarray(SOFT)), 127).area == pytest.approx(2 / 5)
