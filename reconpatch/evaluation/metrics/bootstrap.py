"""The bootstrap by group: images of one part are drawn together."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reconpatch.errors import DataError


def weighted_auroc(
    labels: NDArray[np.bool_], scores: NDArray[np.float64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """AUROC under B sets of image weights at once; ties count one half.

    Args:
        labels: (N,) True where defective.
        scores: (N,) finite.
        weights: (B, N) at least 0, such as counts of a resample.

    Returns:
        (B,) float64; NaN where a class has no weight.
    """
    order = np.argsort(scores, kind="stable")
    ranked = scores[order]
    starts = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]]))
    ordered = weights[:, order]
    positive = np.add.reduceat(ordered * labels[order], starts, axis=1)
    negative = np.add.reduceat(ordered * ~labels[order], starts, axis=1)
    below = np.cumsum(negative, axis=1) - negative / 2
    pairs = positive.sum(axis=1) * negative.sum(axis=1)
    with np.errstate(invalid="ignore"):
        areas: NDArray[np.float64] = (positive * below).sum(axis=1) / pairs
    return areas


def clusters(groups: ArrayLike, shape: tuple[int, ...]) -> tuple[NDArray[np.intp], int]:
    """Index of each image's group, (N,), and the number of groups.

    Raises:
        DataError: there is not one name an image.
    """
    names, member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if member.shape != shape:
        raise DataError(f"groups of shape {member.shape}, images of shape {shape}: both must be (N,)")
    return member, names.size


def draw_groups(
    labels: NDArray[np.bool_], member: NDArray[np.intp], groups: int, resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """How often each group is drawn, (resamples, groups), with each stratum's number of groups kept.

    Groups are drawn with replacement within each stratum (groups of nominal images only, of defective images
    only, of both), so that every resample has both classes as far as the data allow (Davison and Hinkley,
    "Bootstrap Methods and their Application", 1997, sections 3.2 and 3.8).
    """
    stratum = np.zeros(groups, dtype=int)
    np.bitwise_or.at(stratum, member, np.where(labels, 2, 1))
    draws = np.zeros((resamples, groups))
    for kind in np.unique(stratum):
        inside = np.flatnonzero(stratum == kind)
        draws[:, inside] = rng.multinomial(inside.size, np.full(inside.size, 1 / inside.size), size=resamples)
    return draws
