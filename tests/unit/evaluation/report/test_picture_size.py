"""Pictures fit where they must, and are left alone where they do."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reconpatch.evaluation.report.picture_size import bounded_picture


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """What compresses worst, 300 x 200."""
    pixels = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noise.png")
    return tmp_path / "noise.png"


def test_a_small_picture_is_given_as_it_is(noise: Path) -> None:
    assert bounded_picture(noise, noise.stat().st_size) == ("image/png", noise.read_bytes())


@pytest.mark.parametrize("most", [100_000, 20_000, 2_000])
def test_a_large_one_fits_and_keeps_its_shape(noise: Path, most: int) -> None:
    kind, data = bounded_picture(noise, most)
    assert (kind, len(data) <= most) == ("image/jpeg", True)
    with Image.open(io.BytesIO(data)) as shown:
        assert shown.format == "JPEG"
        assert shown.width / shown.height == pytest.approx(1.5, rel=0.05)


def test_what_cannot_fit_is_named(noise: Path) -> None:
    with pytest.raises(ValueError, match=r"noise\.png: does not fit into 10 bytes"):
        bounded_picture(noise, 10)
