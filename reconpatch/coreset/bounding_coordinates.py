"""Short float32 coordinates whose products bound true distances from both sides."""

import math
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reconpatch.errors import DataError

_UNIT_ROUNDOFF = 2.0**-24
# What torch may round the factors of a float32 product to, by `torch.get_float32_matmul_precision`.
_FACTOR_ROUNDOFF = {"highest": 0.0, "high": 2.0**-11, "medium": 2.0**-8}
_CHUNK_ELEMENTS = 1 << 18
# Features that a rotation sums up in one float32 product: the fewer, the smaller its rounding.
_BLOCK = 64
# Below this width a rotation costs more than the shorter products save.
_LEAST_WIDTH = 64
# Share of the variance that may stay outside the rotated axes: of the order of the rounding slack.
_TAIL = 1e-5
_LARGEST = 1e30
_MOST_SCALING = 126  # of 2, in float32; denormal features stay below 1 after it
# In units of the scaled points, whose sample has a largest feature of about 1: what products that
# underflow may lose.
_UNDERFLOW = 1e-30
_NOT_FINITE = "features hold NaN or infinite values; every value must be finite"


@dataclass(frozen=True)
class Coordinates:
    """N points, centred, scaled by a power of two and, where that shortens them, rotated.

    With y the centred and scaled point, z its k coordinates on orthonormal axes and rho = |y - its
    projection|, two points' squared distance is n_i + n_c - 2 z_i.z_c, give or take 2 rho_i rho_c
    (Cauchy-Schwarz on what lies outside the axes). One float32 product of `rows` and `columns` with
    the rounding ``slack`` added or taken off gives both ends:

        rows[i] . columns[c] + upper(i)  >=  |y_i - y_c|^2  >=  low_rows(i) . columns[c] + lower(i)

    ``slack`` * (n_i + n_c) bounds the rounding of any order of summation (Higham, Accuracy and
    Stability of Numerical Algorithms, 2002, section 3.1), of y, z, rho and n_c to float32 or to
    whatever shorter factors torch is set to, and of the rotation.

    Attributes:
        rows: (N, k + 2) float32: z, rho, 1.
        norms: (N,) float64: n = |y|^2.
        scale: power of two that the points were multiplied by.
        slack: relative rounding error of a product.
    """

    rows: Tensor
    norms: NDArray[np.float64]
    scale: float
    slack: float

    def upper(self, places: slice | NDArray[np.int64]) -> NDArray[np.float64]:
        """What products of `rows` lack to be upper bounds."""
        return self.norms[places] * (1 + self.slack) + _UNDERFLOW

    def lower(self, places: slice | NDArray[np.int64]) -> NDArray[np.float64]:
        """What products of `low_rows` lack to be lower bounds."""
        return self.norms[places] * (1 - self.slack) - _UNDERFLOW

    def low_rows(self, places: NDArray[np.int64]) -> Tensor:
        """(n, k + 2) float32 left-hand sides of lower bounds."""
        low = self.rows[torch.from_numpy(places).to(self.rows.device)]
        low[:, -2] *= -1
        low[:, -1] = 1 - 2 * self.slack
        return low

    def columns(self, places: NDArray[np.int64]) -> Tensor:
        """(n, k + 2) float32 right-hand sides."""
        columns = self.rows[torch.from_numpy(places).to(self.rows.device)] * -2.0
        columns[:, -2] *= -1
        columns[:, -1] = torch.from_numpy(self.upper(places)).to(columns)
        return columns

    def reordered(self, order: NDArray[np.int64]) -> "Coordinates":
        """The same points in another order."""
        index = torch.from_numpy(order).to(self.rows.device)
        return replace(self, rows=self.rows[index], norms=self.norms[order])


def bounding_coordinates(
    points: NDArray[np.floating], device: torch.device | str, pool: Executor
) -> Coordinates:
    """Coordinates of ``points`` (N, D) float16 or float32, read once, a chunk at a time.

    The axes are the leading principal ones of a sample, as many as leave 1e-5 of its variance
    outside; where that is more than half the width the points are only centred. Any axes give valid
    bounds: the sample decides how tight they are, never whether they hold.

    Args:
        points: array or memory map.
        device: that will hold the coordinates.
        pool: whose workers take the chunks.

    Raises:
        DataError: a value is NaN or infinite, or sizes differ by more than 15 orders of magnitude.
    """
    count, width = points.shape
    sample = _sample(points, max(2048, 2 * width))
    if not np.isfinite(sample).all():
        raise DataError(_NOT_FINITE)
    centre = sample.mean(axis=0).astype(np.float32)
    sample -= centre
    largest = np.abs(sample).max()
    scale = float(2.0 ** min(-np.ceil(np.log2(largest)), _MOST_SCALING)) if largest > 0 else 1.0
    axes = _principal_axes(sample)
    kept = width if axes is None else axes.shape[1]
    tilt = 0.0 if axes is None else _rotation_error(axes)
    rows = torch.ones(count, kept + 2, dtype=torch.float32)
    norms = np.empty(count)

    def fill(start: int) -> None:
        part = slice(start, start + step)
        y = (points[part].astype(np.float32) - centre) * np.float32(scale)
        norms[part] = n = _squared_norms(y)
        if axes is None:
            rows[part, :kept] = torch.from_numpy(y)
            rows[part, kept] = 0
            return
        z = _rotate(torch.from_numpy(y), axes)
        rows[part, :kept] = z
        # What the rotation may have added to |z| is missing in rho; a larger rho only widens the bounds.
        rest = np.maximum(n - _squared_norms(z.numpy()), 0) + 2 * tilt * (1 + tilt) * n
        rows[part, kept] = torch.from_numpy(np.sqrt(rest))

    step = max(1, _CHUNK_ELEMENTS // width)
    list(pool.map(fill, range(0, count, step)))
    if not np.isfinite(norms).all():
        raise DataError(_NOT_FINITE)
    if norms.max() > _LARGEST:
        raise DataError("features differ in size by more than 15 orders of magnitude; scale them")
    slack = (2 * (kept + 2) + 12) * _UNIT_ROUNDOFF + 4 * _factor_roundoff() + 2 * tilt * (1 + tilt)
    return Coordinates(rows.to(device), norms, scale, slack)


def _factor_roundoff() -> float:
    return _FACTOR_ROUNDOFF[torch.get_float32_matmul_precision()]


def _squared_norms(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    exact = vectors.astype(np.float64)
    squared: NDArray[np.float64] = np.einsum("ij,ij->i", exact, exact)
    return squared


def _rotate(y: Tensor, axes: Tensor) -> Tensor:
    z = torch.zeros(len(y), axes.shape[1])
    for start in range(0, len(axes), _BLOCK):
        z.addmm_(y[:, start : start + _BLOCK], axes[start : start + _BLOCK])
    return z


def _rotation_error(axes: Tensor) -> float:
    """Bound of |z - exact z| / |y| for `_rotate`, the rounding of the axes to float32 included.

    An element's error is at most gamma times the product of |y| and its |axis|, and the norm of all of
    them at most gamma |y| times the spectral norm of |axes|, which the last line bounds.
    """
    width = len(axes)
    gamma = (_BLOCK + width / _BLOCK + 4) * _UNIT_ROUNDOFF + 2 * _factor_roundoff()
    magnitudes = axes.double().abs()
    return gamma * math.sqrt(float(magnitudes.sum(dim=0).max() * magnitudes.sum(dim=1).max()))


def _sample(points: NDArray[np.floating], most: int) -> NDArray[np.float64]:
    if len(points) <= most:
        return points.astype(np.float64)
    chosen = np.random.default_rng(0).choice(len(points), most, replace=False)
    return points[np.sort(chosen)].astype(np.float64)


def _principal_axes(sample: NDArray[np.float64]) -> Tensor | None:
    width = sample.shape[1]
    if width < _LEAST_WIDTH:
        return None
    centred = torch.from_numpy(sample)
    variances, axes = torch.linalg.eigh(centred.T @ centred)
    variances, axes = variances.flip(0).clamp(min=0), axes.flip(1)
    outside = variances.sum() - variances.cumsum(0)
    kept = int((outside <= _TAIL * variances.sum()).nonzero()[0]) + 1
    return axes[:, :kept].float().contiguous() if kept <= width // 2 else None
