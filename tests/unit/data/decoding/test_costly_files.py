"""What costs a decoder more than its picture explains is refused unopened; honest oddities are decoded."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from reconpatch.data.decoding import image_bytes
from reconpatch.data.decoding.costly_files import MAX_FILL, MAX_SCANS, MAX_SEGMENTS
from reconpatch.data.decoding.image_bytes import image_size
from reconpatch.data.images import decode_image
from reconpatch.errors import DataError
from tests.hostile_images import (
    chunks_png,
    comments_ppm,
    fill_jpeg,
    jpeg_with,
    pages_tiff,
    scans_jpeg,
    segments_jpeg,
)

REFUSED = {
    "scans": (scans_jpeg(MAX_SCANS, side=64), "more than 100 scans"),
    "fill": (fill_jpeg(MAX_FILL + 20), "64 KiB of filling"),
    "junk": (jpeg_with(b"\xff\xef\x00\x02" + b"x" * (MAX_FILL + 20)), "64 KiB of filling"),
    "segments": (segments_jpeg(MAX_SEGMENTS), "4096 segments before"),
    "starts": (jpeg_with(b"\xff\xd8" * MAX_SEGMENTS), "4096 segments before"),
    "ends": (jpeg_with(b"\xff\xd9" * MAX_SEGMENTS), "4096 segments before"),
    "chunks": (chunks_png(2_000), "chunks, most of them tiny"),
    "comment": (comments_ppm(1 << 17), "header of more than 64 KiB"),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED)
def test_it_is_refused_unopened(data, reason, monkeypatch):
    monkeypatch.setattr(image_bytes, "_decode", None)
    for look in (image_size, lambda data: decode_image(data, "a")):
        with pytest.raises(DataError, match=reason):
            look(data)


def test_segments_behind_the_first_scan_count():
    data = scans_jpeg(0, side=64)
    place = data.rindex(b"\xff\xda")
    with pytest.raises(DataError, match="segments in its picture"):
        decode_image(data[:place] + b"\xff\xef\x00\x02" * MAX_SEGMENTS + data[place:], "a")


def test_of_the_pages_of_a_tiff_nobody_looks_beyond_the_second():
    # A third page that lies nowhere: who reads on stumbles over it.
    cut = pages_tiff(3)[: 10 + 2 * (2 + 12 * 9 + 4)]
    with pytest.raises(DataError, match="several pages"):
        decode_image(cut, "a")
    assert decode_image(pages_tiff(1), "a").shape == (1, 1, 3)


def test_honest_oddities_are_decoded():
    """A script of ten scans, padded segments, notes between scans and after the end, chunks of 8 KiB."""
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    stream = BytesIO()
    Image.fromarray(noise).save(stream, "JPEG", progressive=True, quality=95)
    data = stream.getvalue()
    assert data.count(b"\xff\xda") == 10
    expected = decode_image(data, "a")
    place = data.rindex(b"\xff\xda")
    notes = b"\xff\xfe\x00\x08" + b"\xff\xd9\xff\xda" + b"ab"
    odd = data[:2] + b"\xff" * 4096 + data[2:place] + notes + data[place:] + b"\xff\xda" * 5_000
    np.testing.assert_array_equal(decode_image(odd, "a"), expected)
    np.testing.assert_array_equal(decode_image(jpeg_with(b"\xff\xe9\x01\x02" + b"\xff" * 256), "a"), 128)
    assert decode_image(chunks_png(900), "a").shape == (8, 8, 3)
    assert decode_image(b"P5 # a\n#b\n 2\n1 255\n" + b"\x07\x08", "a")[0, :, 0].tolist() == [7, 8]
    wide = b"P5\n%d 1\n255\n" % (1 << 17) + bytes(1 << 17)
    assert decode_image(wide, "a").shape == (1, 1 << 17, 3)
