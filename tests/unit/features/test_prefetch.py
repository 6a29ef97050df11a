import threading

import numpy as np
import pytest
from PIL import Image
from waiting import wait_for

from reconpatch.data.images import read_image
from reconpatch.errors import DataError
from reconpatch.features.prefetch import iter_batches, prepared_batches
from reconpatch.model.preprocess import prepare_image
from reconpatch.settings import FeatureSettings

_SETTINGS = FeatureSettings(image_size=32, batch_size=4)


@pytest.fixture
def files(tmp_path):
    generator = np.random.default_rng(0)
    paths = []
    for i in range(10):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(generator.integers(0, 256, (40 + i, 50, 3), dtype=np.uint8)).save(paths[-1])
    return paths


def test_batches_come_in_order_and_hold_the_prepared_images(files):
    batches = list(iter_batches(files, _SETTINGS, workers=3))
    assert [indices for indices, _ in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    expected = np.stack([prepare_image(read_image(path), _SETTINGS) for path in files])
    np.testing.assert_array_equal(np.concatenate([batch for _, batch in batches]), expected)


def test_paths_strings_arrays_and_pil_images_give_the_same(files):
    path = files[0]
    with Image.open(path) as opened:
        forms = [path, str(path), read_image(path), opened]
        ((_, batch),) = iter_batches(forms, _SETTINGS)
    for image in batch[1:]:
        np.testing.assert_array_equal(image, batch[0])


_GREY = np.random.default_rng(7).integers(0, 256, (40, 50), dtype=np.uint8)
_SIXTEEN = _GREY.astype(np.uint16) << 8 | 5


def _bilevel() -> Image.Image:
    return Image.fromarray(_GREY > 127)


@pytest.mark.parametrize(
    ("image", "copy"),
    {
        "L": (Image.fromarray(_GREY), _GREY),
        "LA": (Image.fromarray(_GREY).convert("LA"), _GREY),
        "P": (Image.fromarray(_GREY).convert("P"), _GREY),
        "RGBA": (Image.fromarray(_GREY).convert("RGBA"), _GREY),
        "1": (_bilevel(), np.where(_GREY > 127, np.uint8(255), np.uint8(0))),
        # Pillow's own convert("RGB") of this mode makes everything above 255 white.
        "I;16": (Image.fromarray(_SIXTEEN), _GREY),
        "(H, W)": (_GREY, _GREY),
        "(H, W, 1)": (_GREY[..., None], _GREY),
        "(H, W) of 16 bits": (_SIXTEEN, _GREY),
        "(H, W, 1) of 16 bits": (_SIXTEEN[..., None], _GREY),
        "read only": (np.asarray(Image.fromarray(_GREY)), _GREY),
    }.values(),
    ids=["L", "LA", "P", "RGBA", "1", "I;16", "HW", "HW1", "HW-16", "HW1-16", "read-only"],
)
def test_grey_is_grey_however_it_comes(image, copy, tmp_path):
    """Each equals its RGB copy, and so does the file where a PNG can hold it."""
    forms = [np.repeat(copy[..., None], 3, axis=2), image]
    if isinstance(image, Image.Image):
        image.save(tmp_path / "grey.png")
        forms.append(tmp_path / "grey.png")
    ((_, batch),) = iter_batches(forms, _SETTINGS)
    for one in batch[1:]:
        np.testing.assert_array_equal(one, batch[0])


def test_no_image_gives_no_batch():
    assert list(iter_batches([], _SETTINGS)) == []


@pytest.mark.parametrize("where", [0, 5, 9])
def test_a_broken_file_is_named_and_every_thread_ends(files, where):
    files[where].write_bytes(b"not an image")
    before = threading.active_count()
    with pytest.raises(DataError, match=f"{where}\\.png"):
        list(iter_batches(files, _SETTINGS, workers=2))
    assert threading.active_count() == before


def test_a_wrong_array_is_named_by_its_position():
    for wrong in (np.zeros((8, 8, 2), np.uint8), np.zeros((8, 8)), np.zeros((2, 8, 8, 3), np.uint8)):
        with pytest.raises(DataError, match=r"image 1: is an array of shape \(.*; give \(height, width, 3\)"):
            list(iter_batches([np.zeros((8, 8, 3), np.uint8), wrong], _SETTINGS))


def test_look_ahead_is_bounded_and_work_goes_on_meanwhile():
    loaded = []

    def load(index):
        loaded.append(index)
        return np.zeros((2, 2, 3), np.uint8)

    batches = prepared_batches(load, range(100), batch_size=4, workers=2)
    next(batches)
    wait_for("two batches more", lambda: len(loaded) >= 12)
    assert len(loaded) == 12  # the batch given and two more
    batches.close()
    assert len(loaded) < 100


def test_leaving_early_ends_the_threads(files):
    before = threading.active_count()
    batches = iter_batches(files, _SETTINGS, workers=2)
    next(batches)
    batches.close()
    assert threading.active_count() == before
