"""From a grid of patch scores to a map of the image's size."""

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from reconpatch.errors import DataError

_REFERENCE_SIZE = 224
_LEAST_WEIGHT = 1e-3


def anomaly_maps(scores: NDArray[np.float32], size: int, blur_sigma: float) -> NDArray[np.float32]:
    """Upsample patch scores bilinearly and smooth them with a Gaussian.

    Args:
        scores: (B, h, w) patch scores.
        size: side S of the square map, in pixels.
        blur_sigma: Gaussian sigma in pixels of a map of 224 px; it is scaled with S, so that maps of
            all sizes are equally smooth. 0: no blur.

    Returns:
        (B, S, S) float32. Pixels beyond the outermost patch centres take the border's value before the
        blur; for the blur the map is mirrored about its edge (scipy's ``reflect``, cut at 4 sigma), so
        that a constant map stays constant.

    Raises:
        DataError: ``scores`` has another shape, or no rows or columns.

    Example:
        Two patches, whose centres lie at 1 and 3 of the 4 pixels; what lies beyond takes the border's value:

        >>> anomaly_maps(np.array([[[0, 1]]], np.float32), size=4, blur_sigma=0)[0, 0].tolist()
        [0.0, 0.25, 0.75, 1.0]
    """
    if scores.ndim != 3 or 0 in scores.shape[1:]:
        raise DataError(f"patch scores have shape {scores.shape}; must be (B, h, w) with h and w above 0")
    grid = torch.from_numpy(np.ascontiguousarray(scores, dtype=np.float32))
    rows, columns = (upsample_and_blur(length, size, blur_sigma) for length in scores.shape[1:])
    maps: NDArray[np.float32] = (rows @ (grid @ columns.T)).numpy()
    return maps


def region_maps(
    scores: NDArray[np.float32], cells: NDArray[np.bool_], pixels: NDArray[np.bool_], blur_sigma: float
) -> NDArray[np.float32]:
    """`anomaly_maps` of a region of interest: what lies outside it neither shows nor shines in.

    Args:
        scores: (B, h, w) patch scores, 0 outside the region.
        cells: (h, w) bool, the patches inside.
        pixels: (S, S) bool, the pixels inside.
        blur_sigma: as of `anomaly_maps`.

    Returns:
        (B, S, S) float32: inside, the mean of the patches inside that a pixel of `anomaly_maps` is made of,
        by their weights there; 0 outside.
    """
    maps = anomaly_maps(scores, len(pixels), blur_sigma)
    maps *= inside_gain(cells, pixels, blur_sigma)
    return maps


def inside_gain(
    cells: NDArray[np.bool_], pixels: NDArray[np.bool_], blur_sigma: float
) -> NDArray[np.float32]:
    """(S, S) factor that makes an anomaly map that of a region; arguments as of `region_maps`."""
    weight = anomaly_maps(cells[None].astype(np.float32), len(pixels), blur_sigma)[0]
    gain = np.zeros(pixels.shape, np.float32)
    # A pixel that no patch inside reaches has nothing to show.
    np.divide(1, weight, out=gain, where=pixels & (weight > _LEAST_WEIGHT))
    return gain


@lru_cache(maxsize=16)
def upsample_and_blur(length: int, size: int, blur_sigma: float) -> Tensor:
    """(size, length) float32 matrix that upsamples and blurs a signal of ``length`` samples.

    Both steps are linear and separable, so that for each axis they are one small matrix. Arguments as of
    `anomaly_maps`.
    """
    sigma = blur_sigma * size / _REFERENCE_SIZE
    unit = torch.eye(length, dtype=torch.float64)[None]
    upsampling = F.interpolate(unit, size=size, mode="linear", align_corners=False)[0].T.numpy()
    if sigma > 0:
        upsampling = gaussian_filter1d(upsampling, sigma, axis=0, mode="reflect", truncate=4.0)
    return torch.from_numpy(upsampling.astype(np.float32))
