"""Image statistics: a few numbers an image, enough to find copies, blank, badly lit and blurred images."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HASH_BITS = 256
_HASH_SIDE = 16  # coefficients kept in each direction
_THUMBNAIL = 4 * _HASH_SIDE
_ROWS = 64
_FULL_DETAIL = 2048  # pixels: a longer side is reduced by a whole factor before anything is measured


@dataclass(frozen=True)
class ImageStatistics:
    """What an image looks like as grey values from 0 to 255.

    Attributes:
        perceptual_hash: 256 bits in hex, which differ little between copies that were encoded, lit or scaled
            otherwise; None for an image of one colour, which looks like every other such image.
        brightness: mean.
        contrast: standard deviation.
        sharpness: variance of the Laplacian (the four neighbours less four times the centre); blur lowers it.
    """

    perceptual_hash: str | None
    brightness: float
    contrast: float
    sharpness: float


def measure_image_statistics(picture: Image.Image) -> ImageStatistics:
    """Measure a picture of mode RGB or L; 2 ms a million pixels."""
    grey = picture.convert("L")
    factor = -(-max(grey.size) // _FULL_DETAIL)
    if factor > 1:
        grey = grey.reduce(factor)
    levels = np.arange(256)
    counts = np.asarray(grey.histogram(), dtype=np.float64)
    brightness = float(counts @ levels / counts.sum())
    contrast = float(np.sqrt(counts @ (levels - brightness) ** 2 / counts.sum()))
    one_colour = np.count_nonzero(counts) == 1
    return ImageStatistics(
        perceptual_hash=None if one_colour else _hash(grey),
        brightness=round(brightness, 3),
        contrast=round(contrast, 3),
        sharpness=round(_sharpness(grey), 3),
    )


def hash_bits(hashes: Sequence[str]) -> NDArray[np.uint8]:
    """(N,) hashes as (N, 32) uint8: a row's bits, eight a byte."""
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint8).reshape(len(hashes), HASH_BITS // 8)


def _hash(grey: Image.Image) -> str:
    from scipy.fft import dctn  # takes half a second, which who only decodes need not wait for

    small = grey.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
    waves = dctn(np.asarray(small, dtype=np.float32), norm="ortho")[:_HASH_SIDE, :_HASH_SIDE].ravel()
    waves[0] = 0  # the mean: brightness tells it
    return np.packbits(waves > np.median(waves[1:])).tobytes().hex()


def _sharpness(grey: Image.Image) -> float:
    values = np.pad(np.asarray(grey), 1, mode="edge")
    total = squares = 0.0
    for top in range(0, grey.height, _ROWS):  # a few rows at a time stay in the processor's cache
        rows = values[top : top + _ROWS + 2].astype(np.int16)
        change = 4 * rows[1:-1, 1:-1]
        for beside in (rows[:-2, 1:-1], rows[2:, 1:-1], rows[1:-1, :-2], rows[1:-1, 2:]):
            change -= beside
        flat = change.ravel().astype(np.float32)
        total += float(flat.sum())
        squares += float(flat @ flat)
    size = grey.width * grey.height
    return max(0.0, squares / size - (total / size) ** 2)
