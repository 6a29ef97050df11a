"""The numbers that tell copies, blank, badly lit and blurred images apart."""

from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageFilter

from reconpatch.data.demo import make_demo
from reconpatch.data.image_statistics import HASH_BITS, hash_bits, measure_image_statistics
from reconpatch.data.images import read_image
from reconpatch.data.manifest import build_manifest
from reconpatch.settings import DataSettings

COPIES_DIFFER_BY, OTHERS_DIFFER_BY = 12, 14  # bits of 256


def _texture(seed: int, size: tuple[int, int] = (240, 320)) -> Image.Image:
    noise = np.random.default_rng(seed).normal(0, 60, (size[0] // 8, size[1] // 8))
    small = Image.fromarray((noise + 120).clip(0, 255).astype(np.uint8))
    return small.resize(size[::-1], Image.Resampling.BICUBIC)


def _distance(first: Image.Image, second: Image.Image) -> int:
    hashes = [measure_image_statistics(picture).perceptual_hash for picture in (first, second)]
    bits = hash_bits([text for text in hashes if text is not None])
    return int(np.bitwise_count(bits[0] ^ bits[1]).sum())


def _as_jpeg(picture: Image.Image) -> Image.Image:
    stream = BytesIO()
    picture.save(stream, "JPEG", quality=75)
    return Image.open(stream)


def test_the_numbers_are_what_their_names_say():
    values = np.array([[0, 0, 90], [0, 90, 90], [0, 0, 0]], dtype=np.uint8)
    statistics = measure_image_statistics(Image.fromarray(values))
    padded = np.pad(values.astype(float), 1, mode="edge")
    laplacian = 4 * padded[1:-1, 1:-1] - padded[:-2, 1:-1] - padded[2:, 1:-1]
    laplacian -= padded[1:-1, :-2] + padded[1:-1, 2:]
    assert statistics.brightness == round(values.mean(), 3)
    assert statistics.contrast == round(values.std(), 3)
    assert statistics.sharpness == pytest.approx(laplacian.var(), abs=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        _as_jpeg,
        lambda picture: picture.point(lambda value: min(255, value * 1.08)),
        lambda picture: picture.resize((224, 168), Image.Resampling.BICUBIC),
        lambda picture: picture.filter(ImageFilter.GaussianBlur(1)),
        lambda picture: picture.convert("RGB"),
    ],
    ids=["jpeg", "brighter", "smaller", "blurred", "in colour"],
)
def test_a_copy_has_nearly_the_same_hash_and_another_image_none_like_it(change):
    for seed in range(8):
        assert _distance(_texture(seed), change(_texture(seed))) <= COPIES_DIFFER_BY
        assert _distance(_texture(seed), change(_texture(seed + 100))) > 4 * COPIES_DIFFER_BY


def test_blur_lowers_sharpness_and_light_changes_brightness():
    picture = _texture(0)
    blurred = picture.filter(ImageFilter.GaussianBlur(4))
    lighter = picture.point(lambda value: min(255, value + 30))
    assert measure_image_statistics(blurred).sharpness < 0.2 * measure_image_statistics(picture).sharpness
    assert measure_image_statistics(lighter).brightness > measure_image_statistics(picture).brightness + 20


@pytest.mark.parametrize("colour", [0, 77, 255])
def test_an_image_of_one_colour_has_no_hash(colour):
    statistics = measure_image_statistics(Image.new("RGB", (40, 30), (colour,) * 3))
    assert (statistics.perceptual_hash, statistics.brightness, statistics.contrast, statistics.sharpness) == (
        None,
        colour,
        0,
        0,
    )


def test_long_and_tiny_images_are_measured():
    for size in ((1, 1), (1, 5000), (4097, 3)):
        picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8))
        statistics = measure_image_statistics(picture)
        assert statistics.perceptual_hash is None or len(statistics.perceptual_hash) == HASH_BITS // 4


def test_the_demo_set_holds_no_near_copies(tmp_path):
    make_demo(tmp_path, categories=("brick",))
    table = build_manifest(tmp_path / "brick", DataSettings())
    bits = hash_bits(table["perceptual_hash"].tolist())
    apart = np.bitwise_count(bits[:, None] ^ bits[None]).sum(axis=2) + 999 * np.eye(len(bits), dtype=int)
    assert apart.min() > OTHERS_DIFFER_BY


@pytest.mark.real_images
def test_views_of_one_kind_of_part_are_no_copies_and_an_encoded_one_is(real_images):
    folder = real_images / "mvtec" / "bottle" / "train" / "good"
    pictures = [Image.fromarray(read_image(path)) for path in sorted(folder.iterdir())[:12]]
    for first, second in pairwise(pictures):
        assert _distance(first, second) >= OTHERS_DIFFER_BY
        assert _distance(first, _as_jpeg(first)) <= COPIES_DIFFER_BY
