"""How f and g start: the input's statistics, and weights drawn by an explicit generator."""

import math

import numpy as np
import torch
from torch import Tensor

from reconpatch.errors import DataError

_CHUNK_ROWS = 1 << 13
_PRINCIPAL_ROWS = 20_000


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


def principal_weight(features: np.ndarray, dim: int, generator: torch.Generator) -> Tensor:
    """The ``dim`` directions in which the features vary most, as orthonormal rows: (dim, D), dim <= D.

    No projection of this width keeps more of the squared distances between the features. It is taken
    from at most 20,000 patches, drawn by the generator.
    """
    picked = torch.randperm(len(features), generator=generator)[:_PRINCIPAL_ROWS].sort().values
    rows = torch.from_numpy(features[picked.numpy()].astype(np.float32)).double()
    _, directions = torch.linalg.eigh(rows.T.cov(correction=0))
    weight: Tensor = directions[:, -dim:].T.flip(0)
    return weight.float().contiguous()


def random_weight(dim_in: int, dim: int, generator: torch.Generator) -> Tensor:
    """Uniform (dim, dim_in) weight in +-1/sqrt(dim_in), the usual start of a linear layer."""
    bound = 1 / math.sqrt(dim_in)
    return torch.empty(dim, dim_in).uniform_(-bound, bound, generator=generator)
