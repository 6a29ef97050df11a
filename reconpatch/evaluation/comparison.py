"""Is one detector better than another on the same test images? Better, not worse, worse, or: cannot tell.

Both are measured on the same resamples of the images (paired), drawn by group within strata of the classes.
docs/adr/0008-gate-statistics.md says why these rules, and what they were measured to do.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reconpatch.errors import DataError
from reconpatch.evaluation.metrics import registry
from reconpatch.evaluation.metrics.bootstrap import clusters, draw_groups
from reconpatch.evaluation.metrics.image_metrics import checked, placements
from reconpatch.evaluation.metrics.pixel_histograms import PixelHistograms

MARGIN = 0.01
FEWEST_GROUPS = 10  # of each class; below, the bootstrap's bounds do not hold what they say
_FEWEST_INFORMATIVE = 5
_RISK = 0.05  # of each one-sided bound
_DETECTED = 0.8
_MOST_WEIGHTS = 1 << 22

_Statistic = Callable[[NDArray[np.float64]], NDArray[np.float64]]


class Conclusion(StrEnum):
    """What a comparison says of the first detector."""

    BETTER = "better"
    NOT_WORSE = "not worse"
    WORSE = "worse"
    CANNOT_TELL = "CANNOT TELL"


@dataclass(frozen=True)
class Comparison:
    """One metric of two detectors on the same images.

    Attributes:
        conclusion: ``better``: the lower bound is above 0; ``not worse``: it is above -margin; ``worse``: it
            is not, and the upper bound is below 0; else ``CANNOT TELL``.
        difference: first minus second detector, on all images; None when it is not defined.
        lower: one-sided 95 % bound of the difference; None where no bound can be had.
        upper: the same from above.
        detectable: the smallest difference that such a test set shows in 8 of 10 cases; where the set is
            saturated, the largest that it may hide (95 %).
        margin: loss that is accepted.
        reason: the conclusion in words.
    """

    conclusion: Conclusion
    difference: float | None
    lower: float | None
    upper: float | None
    detectable: float | None
    margin: float
    reason: str

    @classmethod
    def cannot(
        cls, reason: str, margin: float, difference: float | None = None, hidden: float | None = None
    ) -> "Comparison":
        """``CANNOT TELL``, with what may be hidden where that is known."""
        if hidden is not None:
            reason += f"; a difference up to {hidden:.4f} may go unseen"
        return cls(Conclusion.CANNOT_TELL, difference, None, None, hidden, margin, reason)


def compare_images(
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    groups: ArrayLike,
    metric: str = "image_auroc",
    *,
    margin: float = MARGIN,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare a metric of image scores of two detectors, such as the image AUROC.

    Args:
        labels: (N,) 0 nominal, 1 defective.
        first: (N,) finite scores of the detector that is judged.
        second: (N,) finite scores of the detector that it is compared with; scales may differ.
        groups: (N,) names; each distinct one is drawn as a whole.
        metric: name of one that the registry can resample.
        margin: loss that still counts as not worse.
        resamples: number of bootstrap sets.
        seed: of the draws.

    Raises:
        DataError: the arrays do not fit, a score is not finite, or the metric is another one.
    """
    resampled, sign = _comparable(metric, of_images=True)
    truth, new = checked(labels, first)
    _, old = checked(labels, second)
    member, _ = clusters(groups, truth.shape)
    if truth.all():
        return Comparison.cannot("no nominal image: the metric is not defined", margin)
    moved = placements(truth, new) != placements(truth, old)

    def difference(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return sign * (resampled(truth, new, weights) - resampled(truth, old, weights))

    both_perfect = all(bool((placements(truth, scores) == 1).all()) for scores in (new, old))
    # One missed defect moves every nominal image's place too: of one part they all speak.
    informative = min(np.unique(member[moved & (truth == side)]).size for side in (False, True))
    return _compare(truth, member, difference, margin, resamples, seed, informative, saturated=both_perfect)


def compare_pixels(
    labels: ArrayLike,
    first: PixelHistograms,
    second: PixelHistograms,
    groups: ArrayLike,
    metric: str,
    *,
    limit: float = 0.3,
    margin: float = MARGIN,
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Compare a pixel metric of two detectors from their per-image histograms.

    Args:
        labels: (N,) 0 nominal, 1 defective.
        first: of the N images by the detector that is judged.
        second: of the same images, by the detector that it is compared with.
        groups: (N,) names; each distinct one is drawn as a whole.
        metric: name of one that the registry can resample, such as ``aupro``.
        limit: false-positive rate up to which AUPRO integrates.
        margin: loss that still counts as not worse.
        resamples: number of bootstrap sets.
        seed: of the draws.

    Raises:
        DataError: the number of images differs, or the metric is another one.
    """
    resampled, sign = _comparable(metric, of_images=False)
    truth = np.asarray(labels).astype(bool)
    if not len(first) == len(second) == truth.size:
        raise DataError(f"{len(first)} and {len(second)} histograms of {truth.size} images: must be the same")
    rows = np.flatnonzero(first.measured & second.measured)
    if not truth[rows].any():
        return Comparison.cannot("no defective image with a mask: pixel metrics are not defined", margin)
    member, _ = clusters(np.asarray(groups, dtype=str)[rows], rows.shape)
    new, old = first.take(rows), second.take(rows)

    def difference(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        return sign * (resampled(new, weights, limit) - resampled(old, weights, limit))

    whole = np.ones((1, rows.size))
    best = registry.find(metric).highest if sign > 0 else -registry.find(metric).lowest
    perfect = all(sign * resampled(one, whole, limit)[0] >= best for one in (new, old))
    return _compare(
        truth[rows], member, difference, margin, resamples, seed, np.unique(member).size, saturated=perfect
    )


def _comparable(name: str, of_images: bool) -> tuple[Callable[..., NDArray[np.float64]], int]:
    """How the registry resamples a metric, and the sign that makes its larger values better."""
    metric = registry.find(name)
    if metric.resampled is None or (metric.of_images is not None) != of_images:
        kind = "image" if of_images else "pixel"
        known = ", ".join(registry.comparable())
        raise DataError(f"{name}: no {kind} metric that can be resampled; choose from {known}")
    return metric.resampled, 1 if metric.larger_is_better else -1


def _compare(
    truth: NDArray[np.bool_],
    member: NDArray[np.intp],
    difference: _Statistic,
    margin: float,
    resamples: int,
    seed: int,
    informative: int,
    *,
    saturated: bool,
) -> Comparison:
    whole = float(difference(np.ones((1, truth.size)))[0])
    observed = whole if np.isfinite(whole) else None
    fewest = min(np.unique(member[~truth]).size, np.unique(member[truth]).size)
    hidden = 1 - _RISK ** (1 / fewest) if fewest else None
    if fewest < FEWEST_GROUPS:
        told = f"the set is too small: {fewest} groups in its smaller class, {FEWEST_GROUPS} are needed"
        return Comparison.cannot(told, margin, observed, hidden)
    if saturated:
        return Comparison.cannot(
            "the set is saturated: both detectors are perfect on it", margin, observed, hidden
        )
    if informative < _FEWEST_INFORMATIVE:
        told = (
            f"only {informative} group(s) are ranked otherwise by the two, {_FEWEST_INFORMATIVE} are needed"
        )
        return Comparison.cannot(told, margin, observed, hidden)
    draws = draw_groups(truth, member, int(member.max()) + 1, resamples, np.random.default_rng(seed))
    parts = np.array_split(draws, -(-resamples * truth.size // _MOST_WEIGHTS))
    values = np.concatenate([difference(part[:, member]) for part in parts])
    values = values[np.isfinite(values)]
    if observed is None or not values.size:
        return Comparison.cannot("no resample has a difference", margin, observed, hidden)
    if np.ptp(values) == 0:
        return _constant(observed, margin, hidden)
    spread, normal = float(values.std(ddof=1)), NormalDist()
    lower, upper = (float(bound) for bound in np.quantile(values, [_RISK, 1 - _RISK]))
    # Near saturation the percentiles of a lucky set are too near to its difference, and to one side.
    reach = spread * normal.inv_cdf(1 - _RISK)
    lower, upper = min(lower, observed - reach), max(upper, observed + reach)
    detectable = spread * (normal.inv_cdf(1 - _RISK) + normal.inv_cdf(_DETECTED))
    conclusion = _conclude(lower, upper, margin)
    told = f"{observed:+.4f}, 95 % bounds {lower:+.4f} and {upper:+.4f}, margin {margin:g}"
    if lower <= 0 <= upper:
        told += "; not distinguishable"
    told += f"; smallest detectable difference {detectable:.4f}"
    return Comparison(conclusion, observed, lower, upper, detectable, margin, told)


def _constant(observed: float, margin: float, hidden: float | None) -> Comparison:
    """Where every resample gives the same difference: the bounds are what the set may hide."""
    told = "every resample gives the same difference"
    conclusion = Conclusion.CANNOT_TELL
    if hidden is not None and abs(observed) > hidden:
        conclusion = _conclude(observed - hidden, observed + hidden, margin)
    if hidden is None or conclusion in (Conclusion.CANNOT_TELL, Conclusion.NOT_WORSE):
        return Comparison.cannot(told, margin, observed, hidden)
    lower, upper = observed - hidden, observed + hidden
    told = f"{observed:+.4f} in every resample, of which up to {hidden:.4f} may be luck; margin {margin:g}"
    return Comparison(conclusion, observed, lower, upper, hidden, margin, told)


def _conclude(lower: float, upper: float, margin: float) -> Conclusion:
    if lower > 0:
        return Conclusion.BETTER
    if lower > -margin:
        return Conclusion.NOT_WORSE
    return Conclusion.WORSE if upper < 0 else Conclusion.CANNOT_TELL
