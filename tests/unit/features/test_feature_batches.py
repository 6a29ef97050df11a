import threading

import numpy as np
import pytest
from PIL import Image
from waiting import wait_for

from reconpatch.data.images import read_image
from reconpatch.errors import DataError
from reconpatch.features.batches import iter_batches, prepared_batches
from reconpatch.features.preprocess import prepare_image
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


def test_a_grey_pil_image_becomes_rgb():
    ((_, batch),) = iter_batches([Image.new("L", (32, 32), 77)], _SETTINGS)
    np.testing.assert_array_equal(batch, np.full((1, 32, 32, 3), 77))


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
    images = [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8)]
    with pytest.raises(DataError, match="image 1: "):
        list(iter_batches(images, _SETTINGS))


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
