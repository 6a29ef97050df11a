"""Seeded synthetic defects on nominal images, for sets without a real one.

They say whether a detector sees such disturbances at all. They are no stand-in for real defects, and every
metric made with them is named synthetic.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_STRONGEST_SMALL = 0.12


@dataclass(frozen=True)
class SyntheticDefect:
    """A disturbed image.

    Attributes:
        kind: ``cut_paste``, ``noise_blob`` or ``scratch``.
        image: (H, W, 3) uint8.
        mask: (H, W) bool, True where a pixel may differ from the nominal image.
    """

    kind: str
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]


def add_defect(image: NDArray[np.uint8], kind: str, seed: int) -> SyntheticDefect:
    """Put one synthetic defect on a nominal image; the same arguments give the same bytes.

    Args:
        image: (H, W, 3) uint8, at least 16 pixels a side.
        kind: one of `KINDS`: a rectangle of the image pasted elsewhere, turned over (Li et al., "CutPaste",
            CVPR 2021); a round patch of smooth coloured noise; a thin dark or bright curve.
        seed: of size, place and strength.
    """
    rng = np.random.default_rng([seed, sorted(KINDS).index(kind)])
    changed, mask = KINDS[kind](image, rng)
    return SyntheticDefect(kind, changed, mask)


def _cut_paste(
    image: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    height, width, _ = image.shape
    rows, columns = (max(4, int(side * rng.uniform(0.06, 2 * _STRONGEST_SMALL))) for side in (height, width))
    (from_row, to_row), (from_column, to_column) = (
        rng.integers(0, height - rows + 1, 2),
        rng.integers(0, width - columns + 1, 2),
    )
    piece = image[from_row : from_row + rows, from_column : from_column + columns][::-1, ::-1]
    changed = image.copy()
    changed[to_row : to_row + rows, to_column : to_column + columns] = piece
    mask = np.zeros((height, width), dtype=bool)
    mask[to_row : to_row + rows, to_column : to_column + columns] = True
    return changed, mask


def _noise_blob(
    image: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    height, width, _ = image.shape
    side = min(height, width)
    radius = max(3.0, side * rng.uniform(0.03, _STRONGEST_SMALL))
    row, column = rng.uniform(radius, height - radius), rng.uniform(radius, width - radius)
    y, x = np.ogrid[:height, :width]
    wobble = ndimage.gaussian_filter(rng.normal(size=(height, width)), radius / 3)
    distance = np.hypot(y - row, x - column) + wobble * radius * 0.3 / wobble.std()
    mask = distance < radius
    noise = ndimage.gaussian_filter(rng.normal(size=image.shape), (radius / 6, radius / 6, 0))
    shift = rng.uniform(30, 70) * rng.choice([-1, 1]) + noise * 25 / noise.std()
    changed = np.clip(image + shift * mask[:, :, None], 0, 255).astype(np.uint8)
    return changed, mask


def _scratch(
    image: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    height, width, _ = image.shape
    side = min(height, width)
    start = rng.uniform(0.15, 0.85, 2) * (height, width)
    angle, length = rng.uniform(0, 2 * np.pi), side * rng.uniform(0.15, 0.4)
    bend = rng.uniform(-0.6, 0.6)
    steps = np.linspace(0, 1, int(4 * length))
    along = angle + bend * steps
    rows = start[0] + np.cumsum(np.sin(along)) * length / steps.size
    columns = start[1] + np.cumsum(np.cos(along)) * length / steps.size
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    drawn = np.ones((height, width), dtype=bool)
    drawn[rows[inside].astype(int), columns[inside].astype(int)] = False
    mask = ndimage.distance_transform_edt(drawn) <= max(1.0, side * rng.uniform(0.003, 0.008))
    shift = rng.uniform(45, 90) * rng.choice([-1, 1])
    changed = np.clip(image + shift * mask[:, :, None], 0, 255).astype(np.uint8)
    return changed, mask


KINDS: dict[
    str,
    Callable[
        [NDArray[np.uint8], np.random.Generator],
        tuple[NDArray[np.uint8], NDArray[np.bool_]],
    ],
] = {"cut_paste": _cut_paste, "noise_blob": _noise_blob, "scratch": _scratch}
