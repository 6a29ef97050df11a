"""From nearest-neighbour distances to patch and image scores (paper, eqs. 9 and 10)."""

import numpy as np
from numpy.typing import NDArray

from reconpatch.model.memory_bank import MemoryBank
from reconpatch.model.nearest_neighbours import distances_to
from reconpatch.settings import ScoringSettings


def score_patches(
    bank: MemoryBank, queries: NDArray[np.float32], settings: ScoringSettings
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Anomaly scores of patches and of their images.

    A patch's score is its distance to the nearest bank vector r* (eq. 9), times, where
    ``settings.reweighting`` says so, the weight of eq. 10. The image score is the largest patch
    score, before any blurring.

    Args:
        bank: the nominal vectors.
        queries: (B, P, dim) float32 patch vectors of B images.
        settings: ``reweighting``: ``none``: eq. 9 alone (amazon's PatchCore code); ``patch``: eq. 10
            for every patch, as ReConPatch writes it; ``image``: eq. 10 for each image's largest
            distance only, patch scores stay eq. 9 (PatchCore's paper). ``neighbours``: b of eq. 10.

    Returns:
        Patch scores (B, P) float32 and image scores (B,) float32, both not negative.

    Raises:
        DataError: the queries' width is not the bank's.

    Example:
        One image of two patches: the first is in the bank, the second lies 5 from the nearest vector.

        >>> bank = MemoryBank(np.array([[0, 0], [30, 40]], np.float32))
        >>> patches = np.array([[[0, 0], [3, 4]]], np.float32)
        >>> of_patches, of_images = score_patches(bank, patches, ScoringSettings(reweighting="none"))
        >>> of_patches.tolist(), of_images.tolist()
        ([[0.0, 5.0]], [5.0])
    """
    images, patches, dim = queries.shape
    flat = np.ascontiguousarray(queries, dtype=np.float32).reshape(-1, dim)
    found, indices = bank.search(flat, 1)
    distances, nearest = found[:, 0], indices[:, 0]
    if settings.reweighting == "patch":
        distances = distances * reweighting(bank, flat, distances, nearest, settings.neighbours)
    scores = distances.reshape(images, patches)
    if settings.reweighting != "image":
        return scores, scores.max(axis=1)
    worst = scores.argmax(axis=1) + np.arange(images) * patches
    weights = reweighting(bank, flat[worst], distances[worst], nearest[worst], settings.neighbours)
    return scores, distances[worst] * weights


def reweighting(
    bank: MemoryBank,
    queries: NDArray[np.float32],
    distances: NDArray[np.float32],
    nearest: NDArray[np.int64],
    neighbours: int,
) -> NDArray[np.float32]:
    """The weight of eq. 10: 1 - exp(D) / sum over r' in N_b(r*) of exp(D(query, r')).

    N_b(r*) are the b bank vectors nearest to r*, r* itself among them; a bank with fewer vectors gives
    them all. A bank of one vector, which leaves nothing to compare with, gives weight 1. The softmax is
    shifted by its largest distance, so that it cannot overflow.

    Args:
        bank: the nominal vectors.
        queries: (Q, dim) float32.
        distances: (Q,) distance D of each query to its nearest bank vector.
        nearest: (Q,) that vector's index.
        neighbours: b, at least 1.

    Returns:
        (Q,) float32 weights in [0, 1]; 1 where the other neighbours lie so far that float32 rounds to it.
    """
    if len(bank) == 1:
        return np.ones_like(distances)
    around = bank.neighbours(neighbours)[nearest]
    to_neighbours = distances_to(bank.vectors, queries, around)
    shift = to_neighbours.max(axis=1)
    total = np.exp(to_neighbours - shift[:, None]).sum(axis=1)
    weights: NDArray[np.float32] = 1 - np.exp(distances - shift) / total
    return np.maximum(weights, 0)
