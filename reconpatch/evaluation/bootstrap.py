"""Bootstrap intervals that respect groups: images of one part are drawn together."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reconpatch.errors import DataError
from reconpatch.evaluation.metrics import checked

_FEWEST_GROUPS = 5
_MOST_WEIGHTS = 1 << 22  # resamples times images at once: 32 MiB


def auroc_interval(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: ArrayLike,
    *,
    resamples: int = 1000,
    coverage: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of the image AUROC, resampling groups within strata.

    Groups are drawn with replacement within each stratum (groups of nominal images only, of defective ones
    only, of both), so that every resample has both classes as far as the data allow; images of a drawn group
    come along as often as it is drawn (Davison and Hinkley, "Bootstrap Methods and their Application", 1997,
    sections 3.2 and 3.8).

    Args:
        labels: (N,) 0 nominal, 1 defective.
        scores: (N,) finite.
        groups: (N,) names; each distinct one is a cluster.
        resamples: number of bootstrap sets.
        coverage: share of the bootstrap distribution inside the interval.
        seed: of the draws.

    Returns:
        Lower and upper bound in [0, 1].

    Raises:
        DataError: a class is absent, has fewer than 5 groups, or the classes are separated without overlap:
            then every resample gives the same value, and an interval of no width would claim certainty.
    """
    truth, values = checked(labels, scores)
    member, count = clusters(groups, truth.shape)
    for name, rows in (("nominal", ~truth), ("defective", truth)):
        _check_enough(np.unique(member[rows]).size, f"{name} ")
    if _is_separated(truth, values):
        raise DataError("the classes do not overlap (saturated): a bootstrap interval would have no width")
    draws = draw_groups(truth, member, count, resamples, np.random.default_rng(seed))
    parts = np.array_split(draws, -(-resamples * truth.size // _MOST_WEIGHTS))
    areas = [weighted_auroc(truth, values, part[:, member]) for part in parts]
    return _percentiles(np.concatenate(areas), coverage)


def share_interval(
    hits: ArrayLike, groups: ArrayLike, *, resamples: int = 1000, coverage: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile interval of a share, such as a detection rate, resampling groups.

    Args:
        hits: (N,) bool.
        groups: (N,) names; each distinct one is a cluster.
        resamples: number of bootstrap sets.
        coverage: share of the bootstrap distribution inside the interval.
        seed: of the draws.

    Returns:
        Lower and upper bound in [0, 1].

    Raises:
        DataError: fewer than 5 groups, or all values are equal (saturated).
    """
    values = np.asarray(hits, dtype=bool)
    member, count = clusters(groups, values.shape)
    _check_enough(count, "")
    if values.all() or not values.any():
        raise DataError("all verdicts are equal (saturated): a bootstrap interval would have no width")
    rng = np.random.default_rng(seed)
    draws = draw_groups(np.zeros_like(values), member, count, resamples, rng)
    hit, size = np.bincount(member, values), np.bincount(member)
    return _percentiles(draws @ hit / (draws @ size), coverage)


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


def _check_enough(found: int, what: str) -> None:
    if found < _FEWEST_GROUPS:
        raise DataError(f"{found} {what}groups are too few for an interval; {_FEWEST_GROUPS} are needed")


def _percentiles(values: NDArray[np.float64], coverage: float) -> tuple[float, float]:
    tail = (1 - coverage) / 2
    low, high = np.quantile(values[np.isfinite(values)], [tail, 1 - tail])
    return float(low), float(high)


def draw_groups(
    labels: NDArray[np.bool_], member: NDArray[np.intp], groups: int, resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """How often each group is drawn, (resamples, groups), with each stratum's number of groups kept."""
    stratum = np.zeros(groups, dtype=int)
    np.bitwise_or.at(stratum, member, np.where(labels, 2, 1))
    draws = np.zeros((resamples, groups))
    for kind in np.unique(stratum):
        inside = np.flatnonzero(stratum == kind)
        draws[:, inside] = rng.multinomial(inside.size, np.full(inside.size, 1 / inside.size), size=resamples)
    return draws


def _is_separated(labels: NDArray[np.bool_], scores: NDArray[np.float64]) -> bool:
    nominal, defective = scores[~labels], scores[labels]
    return bool(nominal.max() < defective.min() or defective.max() < nominal.min())
