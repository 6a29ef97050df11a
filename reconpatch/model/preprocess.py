"""From an image of any size to the network's square input; masks go the same way."""

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from torch.nn import functional

from reconpatch.errors import DataError
from reconpatch.settings import FeatureSettings

_T = TypeVar("_T", bound=np.generic)
EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


def prepare_image(image: NDArray[np.uint8], settings: FeatureSettings) -> NDArray[np.uint8]:
    """Resize with antialiased bilinear interpolation, then crop the centre if ``resize`` is set.

    Without ``resize`` the whole image is squashed to a square, so that no part of the product goes
    unseen. The result is within 1 of Pillow's on every pixel, at about a quarter of its time.

    Args:
        image: (H, W, 3) uint8 RGB.
        settings: ``image_size`` (S) and ``resize``.

    Returns:
        (S, S, 3) uint8, contiguous.

    Raises:
        DataError: the image is of another shape or type.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise DataError(
            f"image of shape {image.shape} and type {image.dtype}: must be (height, width, 3) uint8 RGB"
        )
    side = settings.resize or settings.image_size
    # Torch warns of arrays that it could write to but must not.
    pixels = torch.from_numpy(image if image.flags.writeable else image.copy())
    resized = functional.interpolate(
        pixels.permute(2, 0, 1)[None], size=(side, side), mode="bilinear", antialias=True
    )
    return np.ascontiguousarray(_crop(resized[0].permute(1, 2, 0).numpy(), settings.image_size))


def prepare_mask(mask: NDArray[np.bool_], settings: FeatureSettings) -> NDArray[np.bool_]:
    """Move a ground-truth mask exactly as `prepare_image` moves its image.

    A pixel is defective where at least half of its area is, which neither grows nor shrinks a defect on
    average. A defect (8-connected) too small to fill half of any pixel keeps the one pixel that holds most
    of it, so that no defect vanishes from per-region metrics; one that the centre crop cuts off is gone.

    Args:
        mask: (H, W) bool, True where defective.
        settings: ``image_size`` (S) and ``resize``.

    Returns:
        (S, S) bool.
    """
    side = settings.resize or settings.image_size
    covered = Image.fromarray(mask.astype(np.float32)).resize((side, side), Image.Resampling.BOX)
    moved = np.asarray(covered) >= 0.5
    _keep_small_defects(mask, moved)
    return np.ascontiguousarray(_crop(moved, settings.image_size))


def _keep_small_defects(mask: NDArray[np.bool_], moved: NDArray[np.bool_]) -> None:
    """Set in ``moved`` one pixel for each region of ``mask`` of which it shows nothing."""
    regions, count = ndimage.label(mask, EIGHT_CONNECTED)
    rows, columns = np.nonzero(mask)
    # Where the centre of each defective pixel comes to lie, and the region that it belongs to.
    target = (2 * rows + 1) * moved.shape[0] // (2 * mask.shape[0]) * moved.shape[1]
    target += (2 * columns + 1) * moved.shape[1] // (2 * mask.shape[1])
    region = regions[rows, columns]
    shown = np.zeros(count + 1, dtype=bool)
    np.logical_or.at(shown, region, moved.ravel()[target])
    for lost in np.flatnonzero(~shown[1:]) + 1:
        pixels, weights = np.unique(target[region == lost], return_counts=True)
        moved.flat[pixels[weights.argmax()]] = True


def _crop(image: NDArray[_T], side: int) -> NDArray[_T]:
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return image[top : top + side, left : left + side]
