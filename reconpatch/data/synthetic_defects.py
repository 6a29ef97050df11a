"""Defects painted into a picture of a texture, with the exact mask of the pixels they touch.

Each function takes a grey picture (S, S) float in [0, 255], a generator and a strength, and returns the
picture with the defect and its mask (S, S) bool. Strength 1 suits a calm texture; it scales size and
contrast, and a lively texture needs more. Outside the mask the picture is what it was, bit for bit.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

Picture = NDArray[np.float64]
Mask = NDArray[np.bool_]
Painted = tuple[Picture, Mask]


def add_scratch(picture: Picture, rng: np.random.Generator, strength: float) -> Painted:
    """A thin, slightly bent line, brighter or darker than what it crosses."""
    size = len(picture)
    length, steps = rng.uniform(0.25, 0.5) * size, 64
    turns = rng.normal(0, 0.05, steps).cumsum() + rng.uniform(0, np.pi)
    path = np.stack([np.sin(turns), np.cos(turns)], axis=1).cumsum(axis=0) * length / steps
    path += rng.uniform(0.3, 0.7, 2) * size - path.mean(axis=0)
    rows, columns = np.mgrid[:size, :size]
    distance = np.full((size, size), np.inf)
    for row, column in path:
        distance = np.minimum(distance, np.hypot(rows - row, columns - column))
    opacity = np.clip(rng.uniform(0.8, 1.6) * strength + 0.5 - distance, 0, 1)
    change = rng.uniform(30, 50) * strength * rng.choice([-1, 1])
    return _blend(picture, picture + change, opacity)


def add_hole(picture: Picture, rng: np.random.Generator, strength: float) -> Painted:
    """A dark pit whose lower edge catches the light."""
    depth, towards = _blob(len(picture), rng, rng.uniform(0.03, 0.06) * strength)
    opacity = np.clip(depth / 2, 0, 1)
    rim = np.clip(1 - np.abs(depth - 2) / 2, 0, 1) * np.clip(towards, 0, 1)
    return _blend(picture, picture * rng.uniform(0.3, 0.6) / strength + 60 * rim, opacity)


def add_stain(picture: Picture, rng: np.random.Generator, strength: float) -> Painted:
    """A patch that is darker or lighter while its texture shows through."""
    depth, _ = _blob(len(picture), rng, rng.uniform(0.08, 0.14) * strength**0.5)
    opacity = np.clip(depth / 5, 0, 1)
    change = rng.uniform(0.18, 0.28) * strength * rng.choice([-1, 1])
    return _blend(picture, picture * (1 + change), opacity)


def add_warp(picture: Picture, rng: np.random.Generator, strength: float) -> Painted:
    """A disc in which the texture is twisted around its centre."""
    size = len(picture)
    radius = rng.uniform(0.12, 0.16) * strength**0.5 * size
    rows, columns = np.mgrid[:size, :size]
    # Where there is something to twist: of a few places, the one with the liveliest texture.
    places = rng.uniform(radius, size - radius, (6, 2))
    discs = [np.hypot(rows - row, columns - column) < radius / 2 for row, column in places]
    centre = places[np.argmax([picture[disc].std() for disc in discs])]
    y, x = rows - centre[0], columns - centre[1]
    from_centre = np.hypot(y, x)
    angle = rng.uniform(1.2, 2.4) * rng.choice([-1, 1]) * np.clip(1 - from_centre / radius, 0, 1) ** 2
    sine, cosine = np.sin(angle), np.cos(angle)
    source = np.stack([centre[0] + cosine * y - sine * x, centre[1] + sine * y + cosine * x])
    twisted = map_coordinates(picture, source, order=1, mode="nearest")
    moved = np.hypot(source[0] - rows, source[1] - columns)
    twisted_out_to = from_centre[moved > 0.5].max()  # the very centre does not move either
    return _blend(picture, twisted, (from_centre <= twisted_out_to).astype(float))


def add_swap(picture: Picture, rng: np.random.Generator, strength: float, other: Picture) -> Painted:
    """A patch of another texture (S, S), given the mean brightness of what it covers."""
    depth, _ = _blob(len(picture), rng, rng.uniform(0.05, 0.08) * strength)
    opacity = np.clip(depth / 3, 0, 1)
    inside = opacity > 0
    return _blend(picture, other + picture[inside].mean() - other[inside].mean(), opacity)


DEFECTS: dict[str, Callable[[Picture, np.random.Generator, float], Painted]] = {
    "scratch": add_scratch,
    "hole": add_hole,
    "stain": add_stain,
    "warp": add_warp,
}


def _blend(picture: Picture, painted: Picture, opacity: Picture) -> Painted:
    mask = opacity > 0
    return np.where(mask, np.clip(picture + opacity * (painted - picture), 0, 255), picture), mask


def _blob(size: int, rng: np.random.Generator, share: float) -> tuple[Picture, Picture]:
    """An irregular blob of about ``share * size`` radius, wholly inside the picture.

    Returns:
        How deep each pixel lies inside it, in pixels (negative outside), and the downward part of the
        direction from its centre, in [-1, 1].
    """
    radius = share * size
    centre = rng.uniform(1.5 * radius, size - 1.5 * radius, 2)
    rows, columns = np.mgrid[:size, :size]
    y, x = rows - centre[0], columns - centre[1]
    from_centre, direction = np.hypot(y, x), np.arctan2(y, x)
    outline = np.full((size, size), radius)
    for waves in (1, 2, 3, 5):
        outline += (
            radius * rng.uniform(0, 0.4 / (1 + waves)) * np.cos(waves * direction + rng.uniform(0, 2 * np.pi))
        )
    return outline - from_centre, np.sin(direction)
