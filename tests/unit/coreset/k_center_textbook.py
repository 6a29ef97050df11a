"""The textbook loop of greedy k-center, as the definition states it."""

import numpy as np


def textbook_k_center(points: np.ndarray, size: int, seed: int = 0) -> np.ndarray:
    """(size,) int64: farthest-first in float64 by differences, lowest index first among equals."""
    points = points.astype(np.float64)
    nearest = np.full(len(points), np.inf)
    chosen = [int(np.random.default_rng(seed).integers(len(points)))]
    while len(chosen) < size:
        difference = points - points[chosen[-1]]
        np.minimum(nearest, np.einsum("ij,ij->i", difference, difference), out=nearest)
        nearest[chosen] = -1
        chosen.append(int(nearest.argmax()))
    return np.array(chosen)


def covering_radius(points: np.ndarray, centres: np.ndarray) -> float:
    """Largest distance of a point to its nearest centre."""
    squared = [((points - centre) ** 2).sum(axis=1) for centre in centres.astype(np.float64)]
    return float(np.sqrt(np.min(squared, axis=0).max()))
