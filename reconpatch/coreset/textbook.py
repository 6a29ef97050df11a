"""The textbook loop of greedy k-center: the reference that `k_center_greedy` equals, index by index."""

import numpy as np
from numpy.typing import NDArray


def textbook_k_center(points: NDArray[np.floating], size: int, seed: int = 0) -> NDArray[np.int64]:
    """Farthest-first in float64 by differences; of equally far points the one with the lowest index.

    Every centre reads all points: the time is size x N x D. Tests compare the fast engine with it.

    Args:
        points: (N, D).
        size: number of centres, 1 to N.
        seed: of the first centre.

    Returns:
        (size,) indices in selection order.
    """
    exact = points.astype(np.float64)
    nearest = np.full(len(exact), np.inf)
    chosen = [int(np.random.default_rng(seed).integers(len(exact)))]
    while len(chosen) < size:
        difference = exact - exact[chosen[-1]]
        np.minimum(nearest, np.einsum("ij,ij->i", difference, difference), out=nearest)
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
    return np.array(chosen)


def covering_radius(points: NDArray[np.floating], centres: NDArray[np.floating]) -> float:
    """Largest distance of (N, D) points to the nearest of (size, D) centres."""
    squared = [((points - centre) ** 2).sum(axis=1) for centre in centres.astype(np.float64)]
    return float(np.sqrt(np.min(squared, axis=0).max()))
