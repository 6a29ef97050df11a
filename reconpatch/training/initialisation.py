"""How f and g start: the input's statistics, and weights drawn by an explicit generator."""

import math

import numpy as np
import torch
from torch import Tensor

from reconpatch.errors import DataError

_CHUNK_ROWS = 1 << 13
_COVARIANCE_ROWS = 20_000
_LEAST_VARIANCE = 1e-4  # of the mean variance


def input_statistics(features: np.ndarray) -> tuple[Tensor, Tensor]:
    """Mean and one scalar scale of the patch features, in a single pass over them.

    One scalar for all dimensions, because a scale per dimension would change which patches are near.

    Args:
        features: (n, D) float16 or float32, may be a memory map.

    Returns:
        mean (D,) float32, and the root mean square deviation over all dimensions, float32 scalar > 0
        (1 when all patches are equal).

    Raises:
        DataError: the features hold NaN or infinite values.
    """
    first = torch.from_numpy(features[0].astype(np.float32))
    total = torch.zeros(len(first), dtype=torch.float64)
    squares = torch.zeros((), dtype=torch.float64)
    for start in range(0, len(features), _CHUNK_ROWS):
        # Counted from the first patch, so that equal patches have a variance of exactly 0.
        rows = torch.from_numpy(features[start : start + _CHUNK_ROWS].astype(np.float32)) - first
        total += rows.sum(0)
        squares += rows.square().sum()
    if not (total.isfinite().all() and squares.isfinite()):
        raise DataError("the patch features hold NaN or infinite values; check the backbone and its weights")
    mean = total / len(features)
    variance = (squares / len(features) - mean.square().sum()) / len(mean)
    scale = variance.sqrt() if variance > 0 else torch.ones(())
    return (mean + first).float(), scale.float()


def isometry_weight(dim_in: int, dim: int, generator: torch.Generator) -> Tensor:
    """Random (dim, dim_in) weight that keeps distances: all of them when dim >= dim_in.

    Then its columns are orthonormal, and it turns the input into the larger space. A narrower one is a
    random orthonormal projection, scaled by sqrt(dim_in / dim) so that squared distances are kept on
    the mean.
    """
    tall = torch.randn(max(dim, dim_in), min(dim, dim_in), generator=generator, dtype=torch.float64)
    basis, upper = torch.linalg.qr(tall)
    basis = basis * upper.diagonal().sign()  # makes the factorisation unique, whatever LAPACK is used
    weight: Tensor = basis if dim >= dim_in else basis.T * math.sqrt(dim_in / dim)
    return weight.float().contiguous()


def whitened_weight(features: np.ndarray, dim: int, share: float, generator: torch.Generator) -> Tensor:
    """Weight that starts f as an isometry, of the features or of the features in part whitened.

    With C = V diag(l) V' the covariance of the features, they are first mapped by V diag(l^(-share / 2)) V',
    times the scalar that keeps their total variance: directions in which nominal patches vary little count
    for more, as far as `share` says. At 0 distances stay what they are (`isometry_weight`), at 1 they are
    Mahalanobis distances. An f narrower than its input keeps the ``dim`` directions of most variance; no
    projection of this width keeps more of the squared distances between the features.

    Args:
        features: (n, D); the covariance is taken from at most 20,000 of them, drawn by the generator.
        dim: width of f's output.
        share: 0 to 1.
        generator: draws the isometry, where f is as wide as its input or wider.

    Returns:
        (dim, D) float32.
    """
    if share == 0 and dim >= features.shape[1]:
        return isometry_weight(features.shape[1], dim, generator)
    variances, directions = _principal_axes(features, generator)
    # Unbounded, directions of rounding alone would be blown up. All are equal where there is no variance.
    floored = variances.clamp(min=_LEAST_VARIANCE * variances.mean())
    factors = floored.pow(-share / 2) if floored.sum() > 0 else torch.ones_like(floored)
    factors *= (floored.sum() / (floored * factors.square()).sum()).sqrt().nan_to_num(nan=1.0)
    if dim < features.shape[1]:
        return (factors[-dim:, None] * directions[:, -dim:].T).flip(0).float().contiguous()
    rotation = isometry_weight(features.shape[1], dim, generator).double()
    return (rotation @ (directions * factors) @ directions.T).float().contiguous()


def _principal_axes(features: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Variances (D,), ascending, and the directions (D, D) they belong to, in columns: float64."""
    picked = torch.randperm(len(features), generator=generator)[:_COVARIANCE_ROWS].sort().values
    rows = torch.from_numpy(features[picked.numpy()].astype(np.float32)).double()
    variances, directions = torch.linalg.eigh(rows.T.cov(correction=0))
    return variances, directions


def random_weight(dim_in: int, dim: int, generator: torch.Generator) -> Tensor:
    """Uniform (dim, dim_in) weight in +-1/sqrt(dim_in), the usual start of a linear layer."""
    bound = 1 / math.sqrt(dim_in)
    return torch.empty(dim, dim_in).uniform_(-bound, bound, generator=generator)
