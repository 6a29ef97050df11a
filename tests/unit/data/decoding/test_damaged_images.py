"""Images that are refused: what each refusal says."""

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from reconpatch.data.images import decode_image, probe_image, probe_mask, read_image, read_mask
from reconpatch.errors import DataError
from tests.image_files import COLOUR, GREY, RNG, png, save


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


def test_a_file_of_more_than_a_gibibyte_is_not_even_read(tmp_path):
    path = tmp_path / "huge.png"
    with path.open("wb") as stream:
        stream.truncate((1 << 30) + 1)  # a hole: it takes no room
    with pytest.raises(DataError, match=r"huge\.png: is larger than 1024 MiB"):
        read_image(path)
    assert probe_image(path).problem is not None
