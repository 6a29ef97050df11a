"""Awkward images: what each is read as, and what each refusal says."""

import os
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from reconpatch.data.images import decode_image, probe_image, probe_mask, read_image, read_mask
from reconpatch.errors import DataError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (9, 12, 3), dtype=np.uint8)
GREY = COLOUR[:, :, 0].copy()
WIDE = RNG.integers(0, 65536, (9, 12), dtype=np.uint16)


def save(path: Path, image: Image.Image, **options) -> Path:
    image.save(path, **options)
    return path


def repeated(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[:, :, None], 3, axis=2)


def png(width: int, height: int, bit_depth: int, colour_type: int, rows: bytes, extra: bytes = b"") -> bytes:
    """A PNG from its parts, for kinds that Pillow does not write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


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


def refused(path: Path, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        read_image(path)
    assert str(path) in str(caught.value)
    with pytest.raises(DataError, match=reason):
        read_mask(path, 127)
    assert reason in (probe_image(path).problem or "")
    assert reason in (probe_mask(path, 127).problem or "")


@pytest.mark.parametrize("ending", ["gif", "png", "webp", "tif"])
def test_several_frames_are_refused(tmp_path, ending):
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    refused(save(tmp_path / f"a.{ending}", frames[0], save_all=True, append_images=frames[1:]), "animated")


TRUNCATED = [
    (ending, kept) for ending in ("png", "jpg", "bmp", "webp", "ppm") for kept in (0.1, 0.5, 0.9, -4, -1)
]
TRUNCATED += [("tif", kept) for kept in (0.1, 0.5, 0.9)]  # what ends a TIFF may be padding


@pytest.mark.parametrize(("ending", "kept"), TRUNCATED)
def test_a_truncated_file_is_refused(tmp_path, ending, kept):
    noise = RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = save(tmp_path / f"a.{ending}", Image.fromarray(noise)).read_bytes()
    path = tmp_path / f"cut.{ending}"
    path.write_bytes(whole[: kept if kept < 0 else int(kept * len(whole))])
    with pytest.raises(DataError, match=f"cut.{ending}: .*(cut short|no image)"):
        read_image(path)


def test_truncation_is_seen_even_when_pillow_is_told_to_forgive_it(tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    for ending in ("png", "jpg"):
        whole = save(tmp_path / f"a.{ending}", Image.fromarray(COLOUR)).read_bytes()
        (tmp_path / f"b.{ending}").write_bytes(whole[:-14])
        refused(tmp_path / f"b.{ending}", "cut short")


def test_a_thumbnail_does_not_hide_a_missing_end(tmp_path):
    stream = BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "JPEG")
    exif = b"Exif\0\0" + stream.getvalue()
    whole = save(tmp_path / "a.jpg", Image.fromarray(COLOUR), exif=exif).read_bytes()
    assert whole.count(b"\xff\xd9") == 2
    assert read_image(tmp_path / "a.jpg").shape == (9, 12, 3)
    (tmp_path / "b.jpg").write_bytes(whole[:-2])
    with pytest.raises(DataError, match="cut short"):
        read_image(tmp_path / "b.jpg")


def test_bytes_after_the_end_of_a_jpeg_are_no_fault(tmp_path):
    path = save(tmp_path / "a.jpg", Image.fromarray(COLOUR))
    expected = read_image(path)
    path.write_bytes(path.read_bytes() + b"\xff\xda camera's own notes")
    np.testing.assert_array_equal(read_image(path), expected)


def test_a_flipped_bit_in_a_png_is_refused(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(COLOUR))
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 20] ^= 1
    path.write_bytes(data)
    refused(path, "damaged")


def test_zero_bytes(tmp_path):
    (tmp_path / "a.png").touch()
    refused(tmp_path / "a.png", "zero bytes")


def test_text_named_png(tmp_path):
    (tmp_path / "a.png").write_text("no image\n" * 50)
    refused(tmp_path / "a.png", "no image of a known format")


@pytest.mark.parametrize(
    "head", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"<svg/>", b"%PDF-1.7"]
)
def test_formats_that_are_programs_are_not_opened(tmp_path, head):
    (tmp_path / "a.png").write_bytes(head)
    refused(tmp_path / "a.png", "no image of a known format")


def test_a_decompression_bomb_is_refused_by_its_header(tmp_path):
    (tmp_path / "a.png").write_bytes(png(60_000, 60_000, 8, 0, b""))
    refused(tmp_path / "a.png", "million pixels")
    (tmp_path / "b.png").write_bytes(png(9_500, 9_500, 8, 0, b""))
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(DataError, match="million pixels"):
        read_image(tmp_path / "b.png")


def test_values_without_a_range_are_refused(tmp_path):
    refused(save(tmp_path / "a.tif", Image.fromarray(GREY.astype(np.float32))), "agreed range")
    refused(save(tmp_path / "b.tif", Image.fromarray(GREY.astype(np.int32))), "agreed range")


def test_rare_colour_spaces_are_refused(tmp_path):
    refused(save(tmp_path / "a.tif", Image.new("LAB", (3, 3))), "save it as RGB or grey")


def test_what_is_no_file_is_refused(tmp_path):
    refused(tmp_path / "missing.png", "no such file")
    (tmp_path / "folder.png").mkdir()
    refused(tmp_path / "folder.png", "not a plain file")
    os.mkfifo(tmp_path / "pipe.png")
    refused(tmp_path / "pipe.png", "not a plain file")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    refused(tmp_path / "loop.png", "no such file")


@pytest.mark.filterwarnings("ignore")
def test_random_damage_never_raises_anything_else(tmp_path):
    rng, refusals = np.random.default_rng(3), 0
    for ending in ("png", "jpg", "bmp", "tif", "gif", "webp"):
        whole = np.frombuffer(save(tmp_path / f"a.{ending}", Image.fromarray(COLOUR)).read_bytes(), np.uint8)
        for _ in range(60):
            damaged = whole.copy()
            damaged[rng.integers(0, len(whole), 4)] = rng.integers(0, 256, 4)
            try:
                pixels = decode_image(damaged.tobytes(), "x")
            except DataError:
                refusals += 1
            else:
                assert (pixels.dtype, pixels.ndim) == (np.uint8, 3)
    assert refusals > 100


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


def test_probe_hashes_the_bytes_even_of_a_broken_file(tmp_path):
    (tmp_path / "a.png").write_bytes(b"abc")
    probe = probe_image(tmp_path / "a.png")
    assert probe.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert probe.width is None


def test_mask_probe_gives_the_share_of_defective_pixels(tmp_path):
    assert probe_mask(save(tmp_path / "a.png", Image.fromarray(SOFT)), 127).area == pytest.approx(2 / 5)


def test_a_file_of_more_than_a_gibibyte_is_not_even_read(tmp_path):
    path = tmp_path / "huge.png"
    with path.open("wb") as stream:
        stream.truncate((1 << 30) + 1)  # a hole: it takes no room
    with pytest.raises(DataError, match=r"huge\.png: is larger than 1024 MiB"):
        read_image(path)
    assert probe_image(path).problem is not None
