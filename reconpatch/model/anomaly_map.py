"""From a grid of patch scores to a map of the image's size."""

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn

from reconpatch.errors import DataError
from reconpatch.model.region import Region

_REFERENCE_SIZE = 224
_LEAST_WEIGHT = 1e-3


class AnomalyMap(nn.Module):
    """Patch scores upsampled bilinearly and smoothed with a Gaussian.

    Pixels beyond the outermost patch centres take the border's value before the blur; for the blur the map is
    mirrored about its edge (scipy's ``reflect``, cut at 4 sigma), so that a constant map stays constant.

    With a region of interest, what lies outside it neither shows nor shines in: inside, a pixel is the mean
    of the patches inside that it is made of, by their weights; outside it is 0.
    """

    rows: Tensor
    columns: Tensor
    gain: Tensor | None
    places: Tensor | None

    def __init__(
        self, grid: tuple[int, int], size: int, blur_sigma: float, region: Region | None = None
    ) -> None:
        """Prepare the map's matrices.

        Args:
            grid: (h, w) of the patches.
            size: side S of the square map, in pixels.
            blur_sigma: Gaussian sigma in pixels of a map of 224 px; it is scaled with S, so that maps of
                all sizes are equally smooth. 0: no blur.
            region: what counts; None: all.
        """
        super().__init__()
        self.grid = grid
        for name, length in zip(("rows", "columns"), grid, strict=True):
            self.register_buffer(name, upsample_and_blur(length, size, blur_sigma))
        gain = places = None
        if region is not None:
            inside = region.patches(grid)
            # Where each patch of the grid finds its score; behind the last one stands a 0.
            places = torch.full((grid[0] * grid[1],), inside.size)
            places[torch.from_numpy(inside)] = torch.arange(inside.size)
            gain = torch.from_numpy(inside_gain(region.cells(grid), region.pixels, blur_sigma))
        self.register_buffer("places", places)
        self.register_buffer("gain", gain)

    def forward(self, scores: Tensor) -> Tensor:
        """(B, P) patch scores row by row, or those of the K patches in the region, to (B, S, S) maps."""
        if self.places is not None:
            scores = torch.cat([scores, torch.zeros_like(scores[:, :1])], dim=1)[:, self.places]
        maps: Tensor = self.rows @ (scores.reshape(scores.shape[0], *self.grid) @ self.columns.T)
        return maps if self.gain is None else maps * self.gain


def anomaly_maps(scores: NDArray[np.float32], size: int, blur_sigma: float) -> NDArray[np.float32]:
    """`AnomalyMap` of whole images.

    Args:
        scores: (B, h, w) patch scores.
        size: side S of the square map, in pixels.
        blur_sigma: as of `AnomalyMap`.

    Returns:
        (B, S, S) float32.

    Raises:
        DataError: ``scores`` has another shape, or no rows or columns.

    Example:
        Two patches, whose centres lie at 1 and 3 of the 4 pixels; what lies beyond takes the border's value:

        >>> anomaly_maps(np.array([[[0, 1]]], np.float32), size=4, blur_sigma=0)[0, 0].tolist()
        [0.0, 0.25, 0.75, 1.0]
    """
    if scores.ndim != 3 or 0 in scores.shape[1:]:
        raise DataError(f"patch scores have shape {scores.shape}; must be (B, h, w) with h and w above 0")
    flat = torch.from_numpy(
        np.ascontiguousarray(scores, dtype=np.float32).reshape(len(scores), math.prod(scores.shape[1:]))
    )
    maps: NDArray[np.float32] = AnomalyMap(scores.shape[1:], size, blur_sigma)(flat).numpy()
    return maps


def inside_gain(
    cells: NDArray[np.bool_], pixels: NDArray[np.bool_], blur_sigma: float
) -> NDArray[np.float32]:
    """(S, S) factor that makes an anomaly map that of a region.

    Args:
        cells: (h, w) bool, the patches inside.
        pixels: (S, S) bool, the pixels inside.
        blur_sigma: as of `AnomalyMap`.
    """
    weight = anomaly_maps(cells[None].astype(np.float32), len(pixels), blur_sigma)[0]
    gain = np.zeros(pixels.shape, np.float32)
    # A pixel that no patch inside reaches has nothing to show.
    np.divide(1, weight, out=gain, where=pixels & (weight > _LEAST_WEIGHT))
    return gain


@lru_cache(maxsize=16)
def upsample_and_blur(length: int, size: int, blur_sigma: float) -> Tensor:
    """(size, length) float32 matrix that upsamples and blurs a signal of ``length`` samples.

    Both steps are linear and separable, so that for each axis they are one small matrix. Arguments as of
    `AnomalyMap`.
    """
    sigma = blur_sigma * size / _REFERENCE_SIZE
    unit = torch.eye(length, dtype=torch.float64)[None]
    upsampling = F.interpolate(unit, size=size, mode="linear", align_corners=False)[0].T.numpy()
    if sigma > 0:
        upsampling = gaussian_filter1d(upsampling, sigma, axis=0, mode="reflect", truncate=4.0)
    return torch.from_numpy(upsampling.astype(np.float32))
