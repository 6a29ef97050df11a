"""Awkward images: what each is read as."""

import struct
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from reconpatch.data.images import decode_image, probe_image, probe_mask, read_image, read_mask
from tests.image_files import COLOUR, GREY, RNG, WIDE, png, repeated, save


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "webp", "ppm"])
def test_colour_is_read_bit_for_bit(tmp_path, ending):
    options = {"lossless": True} if ending == "webp" else {}
    pixels = read_image(save(tmp_path / f"a.{ending}", Image.fromarray(COLOUR), **options))
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    np.testing.assert_array_equal(pixels, COLOUR)


@pytest.mark.parametrize("ending", ["png", "bmp", "tif", "gif", "pgm"])
def test_grey_is_repeated(tmp_path, ending):
    path = save(tmp_path / f"a.{ending}", Image.fromarray(GREY))
    np.testing.assert_array_equal(read_image(path), repeated(GREY))


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_sixteen_bits_keep_their_full_range(tmp_path, ending):
    path = save(tmp_path / f"a.{ending}", Image.fromarray(WIDE))
    np.testing.assert_array_equal(read_image(path), repeated((WIDE >> 8).astype(np.uint8)))
    assert probe_image(path).bit_depth == 16


def test_sixteen_bit_colour_keeps_its_full_range():
    values = RNG.integers(0, 65536, (4, 5, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    np.testing.assert_array_equal(decode_image(png(5, 4, 16, 2, rows), "x"), (values >> 8).astype(np.uint8))


def test_sixteen_bit_colour_is_seen_in_the_probe(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(1, 1, 16, 2, b"\0" + bytes(6)))
    probe = probe_image(path)
    assert (probe.mode, probe.bit_depth) == ("RGB", 16)


def test_big_endian_sixteen_bit_tiff():
    stream = BytesIO()
    Image.frombytes("I;16B", (12, 9), WIDE.astype(">u2").tobytes()).save(stream, "TIFF")
    pixels = decode_image(stream.getvalue(), "x")
    np.testing.assert_array_equal(pixels, repeated((WIDE >> 8).astype(np.uint8)))


def test_white_is_zero_is_turned_round(tmp_path):
    path = save(tmp_path / "a.tif", Image.fromarray(WIDE), tiffinfo={262: 0})
    data = path.read_bytes()
    with Image.open(path) as stored:
        assert stored.tag_v2[262] == 0, "the file does not show what it should"
    expected = (np.invert(WIDE) >> 8).astype(np.uint8)
    np.testing.assert_array_equal(decode_image(data, "x"), repeated(expected))


def test_twelve_bits_are_spread_over_the_range():
    tags = {256: 2, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: 1, 279: 3}
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    pixels = bytes([0xAB, 0xC1, 0x23])  # 0xABC and 0x123
    data = (
        struct.pack("<2sHI", b"II", 42, 12)
        + pixels
        + b"\0"
        + struct.pack("<H", len(tags))
        + entries
        + bytes(4)
    )
    assert decode_image(data, "x")[0, :, 0].tolist() == [0xAB, 0x12]


def test_a_phone_picture_with_further_views_is_its_first(tmp_path):
    first, second = Image.new("RGB", (16, 8), "red"), Image.new("RGB", (4, 4), "blue")
    path = save(tmp_path / "a.jpg", first, format="MPO", save_all=True, append_images=[second])
    with Image.open(path) as stored:
        assert (stored.format, stored.n_frames) == ("MPO", 2), "the file does not show what it should"
    pixels = read_image(path)
    assert pixels.shape == (8, 16, 3)
    assert np.abs(pixels.astype(int) - [255, 0, 0]).max() <= 3


def test_palette_is_looked_up(tmp_path):
    image = Image.fromarray(RNG.integers(0, 3, (5, 6), dtype=np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 0, 5, 5, 250])
    indices = np.asarray(image)
    expected = np.array([[10, 20, 30], [200, 100, 0], [5, 5, 250]], dtype=np.uint8)[indices]
    np.testing.assert_array_equal(read_image(save(tmp_path / "a.png", image)), expected)


def test_one_bit_is_black_and_white(tmp_path):
    pixels = read_image(save(tmp_path / "a.png", Image.fromarray(GREY > 127)))
    np.testing.assert_array_equal(pixels, repeated(np.where(GREY > 127, 255, 0).astype(np.uint8)))


def test_transparency_is_laid_over_white(tmp_path):
    alpha = np.zeros((9, 12), dtype=np.uint8)
    alpha[:, 6:] = 255
    alpha[0, 0] = 128
    path = save(tmp_path / "a.png", Image.fromarray(np.dstack([COLOUR, alpha])))
    share = (alpha / 255)[:, :, None]
    expected = COLOUR * share + 255 * (1 - share)
    assert np.abs(read_image(path) - expected).max() <= 1
    np.testing.assert_array_equal(read_image(path)[1:, :6], 255)


def test_transparent_colour_of_a_palette_is_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 0])
    image.putpixel((1, 0), 1)
    pixels = read_image(save(tmp_path / "a.png", image, transparency=0))
    assert pixels.tolist() == [[[255, 255, 255], [200, 100, 0]]]


def test_cmyk_jpeg_becomes_its_colours(tmp_path):
    flat = Image.new("RGB", (16, 16), (200, 60, 30))
    pixels = read_image(save(tmp_path / "a.jpg", flat.convert("CMYK"), quality=95))
    assert np.abs(pixels.astype(int) - [200, 60, 30]).max() <= 6
    assert probe_image(tmp_path / "a.jpg").mode == "CMYK"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tif", "webp"])
def test_exif_orientation_is_applied(tmp_path, ending, orientation):
    upright = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a),
    }[orientation](COLOUR)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if ending == "webp" else {}
    path = save(tmp_path / f"a.{ending}", Image.fromarray(COLOUR), exif=exif, **options)
    np.testing.assert_array_equal(read_image(path), upright)
    probe = probe_image(path)
    assert (probe.height, probe.width) == upright.shape[:2]
    assert probe.orientation == orientation


def test_exif_orientation_of_jpeg_and_of_sixteen_bits(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    half = np.zeros((16, 32, 3), dtype=np.uint8)
    half[:8] = 255
    pixels = read_image(save(tmp_path / "a.jpg", Image.fromarray(half), exif=exif))
    assert pixels.shape == (32, 16, 3)
    assert pixels[:, 10:].min() > 250
    assert pixels[:, :6].max() < 5
    wide = read_image(save(tmp_path / "a.png", Image.fromarray(WIDE), exif=exif))
    np.testing.assert_array_equal(wide[:, :, 0], np.rot90(WIDE >> 8, -1))


def test_the_content_decides_not_the_ending(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(COLOUR).save(path, format="PNG")
    np.testing.assert_array_equal(read_image(path), COLOUR)


def test_non_ascii_names(tmp_path):
    path = save(tmp_path / "Prüfling 7 – 検査.png", Image.fromarray(COLOUR))
    np.testing.assert_array_equal(read_image(path), COLOUR)
    np.testing.assert_array_equal(read_image(str(path)), COLOUR)


def test_probe_hashes_the_bytes_even_of_a_broken_file(tmp_path):
    (tmp_path / "a.png").write_bytes(b"abc")
    probe = probe_image(tmp_path / "a.png")
    assert probe.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert probe.width is None


@pytest.mark.parametrize("classes", [(0, 2), (0, 1, 2, 3), (0, 7, 15)])
def test_a_mask_of_class_numbers_is_defective_where_it_is_not_0(tmp_path, classes):
    values = RNG.choice(np.array(classes, np.uint8), (6, 8))
    values[0, : len(classes)] = classes
    path = save(tmp_path / "m.png", Image.fromarray(values))
    np.testing.assert_array_equal(read_mask(path, 127), values > 0)
    probe = probe_mask(path, 127)
    assert probe.area == (values > 0).mean()
    assert probe.grey == (values > 1).mean()  # so that the data check tells how it is read


def test_a_dark_grey_mask_keeps_its_threshold(tmp_path):
    values = np.array([[0, 15, 16, 40]], np.uint8)
    path = save(tmp_path / "m.png", Image.fromarray(values))
    assert not read_mask(path, 127).any()
    assert read_mask(path, 15).tolist() == [[False, False, True, True]]
