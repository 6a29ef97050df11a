"""Disturbances of a real line, at stated strengths: what a moved camera or an old lamp does to images.

Pure functions of image, mask and seed. What moves an image moves its mask along. A new one is a function and
an entry of `CORRUPTIONS`; `measure_robustness` and the command line show it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
_REFERENCE_SIDE = 224  # lengths in pixels are at this side and grow with the image


@dataclass(frozen=True)
class Corruption:
    """One disturbance.

    Attributes:
        name: its name.
        strength: what is done, in words and units.
    """

    name: str
    strength: str
    _apply: Callable[[NDArray[np.float64], Mask, np.random.Generator], tuple[NDArray[np.float64], Mask]]

    def __call__(self, image: Image, mask: Mask, seed: int) -> tuple[Image, Mask]:
        """Disturb an image; the same arguments give the same bytes.

        Args:
            image: (H, W, 3) uint8.
            mask: (H, W) bool, True where defective.
            seed: of direction and amount.

        Returns:
            Image and mask of the same shapes.
        """
        rng = np.random.default_rng([seed, *self.name.encode()])
        changed, moved = self._apply(image.astype(np.float64), mask, rng)
        return np.rint(changed).clip(0, 255).astype(np.uint8), moved


def _moved(
    image: NDArray[np.float64], mask: Mask, matrix: NDArray[np.float64], shift: NDArray[np.float64]
) -> tuple[NDArray[np.float64], Mask]:
    """Take each pixel from ``matrix @ (pixel - centre) + centre + shift``; beyond the border, mirrored."""
    centre = (np.array(mask.shape) - 1) / 2
    offset = centre + shift - matrix @ centre

    def move(plane: NDArray[np.float64], order: int) -> NDArray[np.float64]:
        out: NDArray[np.float64] = ndimage.affine_transform(plane, matrix, offset, order=order, mode="mirror")
        return out

    planes = [move(image[:, :, channel], 1) for channel in range(image.shape[2])]
    return np.stack(planes, axis=2), move(mask.astype(np.float64), 0) > 0.5


def _rotation(
    image: NDArray[np.float64], mask: Mask, rng: np.random.Generator
) -> tuple[NDArray[np.float64], Mask]:
    angle = np.deg2rad(rng.uniform(-10, 10))
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return _moved(image, mask, matrix, np.zeros(2))


def _translation(
    image: NDArray[np.float64], mask: Mask, rng: np.random.Generator
) -> tuple[NDArray[np.float64], Mask]:
    return _moved(image, mask, np.eye(2), rng.uniform(-0.05, 0.05, 2) * mask.shape)


def _brightness_contrast(
    image: NDArray[np.float64], mask: Mask, rng: np.random.Generator
) -> tuple[NDArray[np.float64], Mask]:
    mean = image.mean()
    return (image - mean) * rng.uniform(0.8, 1.2) + mean + 255 * rng.uniform(-0.1, 0.1), mask


def _blur(image: NDArray[np.float64], mask: Mask, _: np.random.Generator) -> tuple[NDArray[np.float64], Mask]:
    sigma = min(mask.shape) / _REFERENCE_SIDE
    return ndimage.gaussian_filter(image, (sigma, sigma, 0)), mask


def _lighting_gradient(
    image: NDArray[np.float64], mask: Mask, rng: np.random.Generator
) -> tuple[NDArray[np.float64], Mask]:
    direction = rng.uniform(0, 2 * np.pi)
    y, x = (np.linspace(-1, 1, side) for side in mask.shape)
    ramp = np.sin(direction) * y[:, None] + np.cos(direction) * x[None, :]
    return image * (1 + 0.2 * ramp / np.abs(ramp).max())[:, :, None], mask


def _sensor_noise(
    image: NDArray[np.float64], mask: Mask, rng: np.random.Generator
) -> tuple[NDArray[np.float64], Mask]:
    # Grey images stay grey: one sensor, one draw a pixel, whose variance grows with the light.
    spread = np.sqrt(4**2 + image.mean(axis=2) / 4)
    return image + (spread * rng.normal(size=mask.shape))[:, :, None], mask


CORRUPTIONS = (
    Corruption("rotation", "up to 10 degrees either way", _rotation),
    Corruption("translation", "up to 5 % of the side either way", _translation),
    Corruption("brightness and contrast", "contrast 0.8 to 1.2, brightness ±10 %", _brightness_contrast),
    Corruption("blur", "Gaussian, sigma 1 pixel at 224", _blur),
    Corruption("lighting gradient", "±20 % from side to side, any direction", _lighting_gradient),
    Corruption("sensor noise", "4 grey levels and shot noise, 9 in white", _sensor_noise),
)
