"""The region of interest: which part of a category's images counts.

`roi.png` (`reconpatch.data.layouts.REGION`) in the category's folder is drawn on one of its images: white
counts, black does not. It is moved as the images are, and belongs to the detector from then on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from reconpatch.data.images import read_image, read_mask
from reconpatch.errors import DataError, ModelError
from reconpatch.model.preprocess import prepare_mask
from reconpatch.settings import Settings


@dataclass(frozen=True, eq=False)
class Region:
    """What counts of a prepared image.

    Attributes:
        pixels: (S, S) bool, at least one True.
    """

    pixels: NDArray[np.bool_]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Region) and np.array_equal(self.pixels, other.pixels)

    __hash__ = None  # type: ignore[assignment]

    @property
    def share(self) -> float:
        """Of the image that counts, in (0, 1]."""
        return float(self.pixels.mean())

    def cells(self, grid: tuple[int, int]) -> NDArray[np.bool_]:
        """(h, w) bool: the patches of which at least half lies inside."""
        covered = Image.fromarray(self.pixels.astype(np.float32)).resize(grid[::-1], Image.Resampling.BOX)
        return np.asarray(covered) >= 0.5

    def take(self, features: NDArray[Any], grid: tuple[int, int]) -> NDArray[Any]:
        """Of (..., P, D) features of whole images those of the K patches inside: (..., K, D)."""
        return features[..., self.patches(grid), :]

    def patches(self, grid: tuple[int, int]) -> NDArray[np.intp]:
        """(K,) positions of the patches inside, among all row by row."""
        if grid not in self._known:
            self._known[grid] = np.flatnonzero(self.cells(grid))
        return self._known[grid]

    @cached_property
    def _known(self) -> dict[tuple[int, int], NDArray[np.intp]]:
        return {}

    def to_dict(self) -> dict[str, Any]:
        """A JSON object: the side, and how many pixels in a row do not count, count, do not count, ..."""
        flat = self.pixels.ravel()
        changes = np.flatnonzero(np.diff(flat, prepend=False))
        runs = np.diff(np.concatenate([[0], changes, [flat.size]]))
        return {"side": len(self.pixels), "runs": runs.tolist()}

    @classmethod
    def from_dict(cls, values: Any) -> "Region":
        """Inverse of `to_dict`.

        Raises:
            ModelError: it is not a region, or nothing counts.
        """
        try:
            side, runs = int(values["side"]), np.array(values["runs"], dtype=np.int64)
            flags = np.arange(runs.size) % 2 == 1
            if runs.ndim != 1 or (runs < 0).any() or runs.sum() != side * side or not runs[flags].any():
                raise ValueError("the runs do not fill the square, or nothing counts")
            return cls(np.repeat(flags, runs).reshape(side, side))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"region of interest: {error!r}; fit the detector again") from None


def read_region(path: Path, images: Sequence[Path], settings: Settings, grid: tuple[int, int]) -> Region:
    """Read a mask of what counts.

    Args:
        path: an image as large as at least one of ``images``; what is above ``data.mask_threshold`` counts.
        images: the category's training images.
        settings: sections ``data`` and ``features``.
        grid: (h, w) of the patches.

    Raises:
        DataError: it cannot be read, has another size than every image, or leaves nothing; it is named.
    """
    mask = read_mask(path, settings.data.mask_threshold)
    if not any(read_image(image).shape[:2] == mask.shape for image in images):
        raise DataError(
            f"{path}: is {mask.shape[1]} x {mask.shape[0]} pixels and no training image is; "
            "draw the region of interest on an image of the category"
        )
    pixels = prepare_mask(mask, settings.features)
    region = Region(pixels)
    if not mask.any() or not pixels.any() or not region.patches(grid).size:
        size = settings.features.image_size
        raise DataError(
            f"{path}: leaves no patch of the images to look at; paint white (above "
            f"{settings.data.mask_threshold}) what counts, "
            f"larger than one patch, {size // grid[0]} pixels of {size}"
        )
    return region
