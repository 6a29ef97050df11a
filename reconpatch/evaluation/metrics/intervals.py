"""Confidence intervals that respect groups: images of one part count as the part, not as many.

benchmarks/interval_coverage.py simulates how often they hold the truth, and compares them with others.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta, norm, t

from reconpatch.errors import DataError
from reconpatch.evaluation.metrics.bootstrap import clusters
from reconpatch.evaluation.metrics.image_metrics import checked, placements

_FEWEST_GROUPS = 5
_HALVINGS = 60


def auroc_interval(
    labels: ArrayLike, scores: ArrayLike, groups: ArrayLike, *, coverage: float = 0.95
) -> tuple[float, float]:
    """Interval of the image AUROC.

    It holds every AUROC whose own standard error, by the formula of Hanley and McNeil, explains the observed
    value (Newcombe, "Confidence intervals for an effect size measure based on the Mann-Whitney statistic",
    Statistics in Medicine 25, 2006, method 5). It has a width even where the classes do not overlap. Both
    classes count as smaller by the design effect: the variance of the AUROC by groups (Obuchowski,
    "Nonparametric analysis of clustered ROC curve data", Biometrics 53, 1997) over that of independent images
    (DeLong et al., 1988), and the allowance of Korn and Graubard for few groups (see `share_interval`).

    Args:
        labels: (N,) 0 nominal, 1 defective.
        scores: (N,) finite.
        groups: (N,) names; each distinct name is a cluster.
        coverage: share of test sets whose interval shall hold the true AUROC, in (0, 1).

    Returns:
        Lower and upper bound in [0, 1].

    Raises:
        DataError: a class is absent or has fewer than 5 groups, or the arrays do not fit.
    """
    truth, values = checked(labels, scores)
    member, count = clusters(groups, truth.shape)
    for name, rows in (("nominal", ~truth), ("defective", truth)):
        _check_enough(np.unique(member[rows]).size, f"{name} ")
    placed = placements(truth, values)
    area = float(placed[truth].mean())
    tail = (1 - coverage) / 2
    effect = _auroc_effect(truth, placed - area, member, count, tail)
    quantile = float(norm.isf(tail))
    nominal, defective = (~truth).sum() / effect, truth.sum() / effect
    lower, upper = (_explaining(area, end, nominal, defective, quantile) for end in (0.0, 1.0))
    return lower, upper


def share_interval(hits: ArrayLike, groups: ArrayLike, *, coverage: float = 0.95) -> tuple[float, float]:
    """Interval of a share, such as a detection rate.

    Clopper and Pearson's exact interval, with as many independent images as the groups are worth (Korn and
    Graubard, "Confidence intervals for proportions with small expected number of positive counts estimated
    from survey data", Survey Methodology 24, 1998): the number of images over the design effect, and less
    where that effect is known from few groups. Where all verdicts are equal the effect cannot be seen, and
    the images of a group are taken to say the same.

    Args:
        hits: (N,) bool.
        groups: (N,) names; each distinct name is a cluster.
        coverage: share of test sets whose interval shall hold the true share, in (0, 1).

    Returns:
        Lower and upper bound in [0, 1].

    Raises:
        DataError: fewer than 5 groups, or the arrays do not fit.
    """
    values = np.asarray(hits, dtype=bool)
    member, count = clusters(groups, values.shape)
    _check_enough(count, "")
    sizes, share = np.bincount(member), float(values.mean())
    tail = (1 - coverage) / 2
    images = values.size
    if 0 < share < 1:
        residuals = np.bincount(member, values - share)
        clustered = count / (count - 1) * float((residuals**2).sum()) / images**2
        effect = clustered * (images - 1) / (share * (1 - share))
    else:
        effect = _alike(sizes)
    effect = _at_least_one(effect, count - 1, images - 1, tail)
    effective = images / effect
    found = share * effective
    lower = float(beta.ppf(tail, found, effective - found + 1)) if share > 0 else 0.0
    upper = float(beta.isf(tail, found + 1, effective - found)) if share < 1 else 1.0
    return lower, upper


def _auroc_effect(
    truth: NDArray[np.bool_],
    residuals: NDArray[np.float64],
    member: NDArray[np.intp],
    count: int,
    tail: float,
) -> float:
    """Design effect of the AUROC; ``residuals`` are the images' placements minus the AUROC."""
    sides = (~truth, truth)
    sums = [np.bincount(member[rows], residuals[rows], count) / rows.sum() for rows in sides]
    found = [np.unique(member[rows]).size for rows in sides]
    by_class = [n / (n - 1) * float((one**2).sum()) for n, one in zip(found, sums, strict=True)]
    # Groups with images of both classes bind the two.
    clustered = sum(by_class) + 2 * count / (count - 1) * float((sums[0] * sums[1]).sum())
    independent = sum(float(residuals[rows].var(ddof=1)) / rows.sum() for rows in sides)
    fewest = min(int(rows.sum()) for rows in sides) - 1
    if independent == 0:  # the classes do not overlap: nothing shows how alike the images of a group are
        return _at_least_one(_alike(np.bincount(member)), min(found) - 1, fewest, tail)
    # Degrees of freedom by Welch and Satterthwaite.
    freedom = sum(by_class) ** 2 / sum(
        one**2 / (n - 1) for n, one in zip(found, by_class, strict=True) if one > 0
    )
    return _at_least_one(clustered / independent, freedom, max(fewest, freedom), tail)


def _at_least_one(effect: float, freedom: float, independent: float, tail: float) -> float:
    """Korn and Graubard's: the effect times their allowance for few groups; never a gain from groups."""
    if effect <= 1 + 1e-9:
        return 1.0
    return max(effect * float(t.isf(tail, freedom) / t.isf(tail, independent)) ** 2, 1.0)


def _alike(sizes: NDArray[np.intp]) -> float:
    """Design effect where all images of a group say the same."""
    return float((sizes**2).sum() / sizes.sum())


def _explaining(area: float, end: float, nominal: float, defective: float, quantile: float) -> float:
    """The AUROC farthest from ``area`` towards ``end`` that is within ``quantile`` of its standard errors."""
    near, far = area, end
    for _ in range(_HALVINGS):
        middle = (near + far) / 2
        if abs(middle - area) <= quantile * _standard_error(middle, nominal, defective):
            near = middle
        else:
            far = middle
    return (near + far) / 2


def _standard_error(area: float, nominal: float, defective: float) -> float:
    """Of an AUROC, by Hanley and McNeil (1982); the classes' mean size in both terms makes it method 5."""
    weight = max((nominal + defective) / 2 - 1, 0.0)
    terms = 1 + weight * ((1 - area) / (2 - area) + area / (1 + area))
    return math.sqrt(area * (1 - area) * terms / (nominal * defective))


def _check_enough(found: int, what: str) -> None:
    if found < _FEWEST_GROUPS:
        raise DataError(f"{found} {what}groups are too few for an interval; {_FEWEST_GROUPS} are needed")
