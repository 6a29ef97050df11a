"""Metrics of anomaly detection: arrays in, float out."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score

from reconpatch.errors import DataError
from reconpatch.evaluation.metrics.pixel_metrics import PixelMetrics, PixelResult


@dataclass(frozen=True)
class ImageScores:
    """What a detector says of the N images of a test set.

    Attributes:
        labels: (N,) 0 nominal, 1 defective.
        scores: (N,) finite, larger is more anomalous.
        groups: (N,) names; images of one part share one.
        threshold: the detector's, above which it rejects; None when it is not calibrated.
    """

    labels: NDArray[np.int_]
    scores: NDArray[np.float64]
    groups: NDArray[np.str_]
    threshold: float | None


def image_auroc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve of image scores.

    Args:
        labels: (N,) 0 nominal, 1 defective (or bool).
        scores: (N,) finite, larger is more anomalous.

    Returns:
        A value in [0, 1]; ties count one half.

    Raises:
        DataError: one of the classes is absent, or the arrays do not fit.

    Example:
        Of the four pairs of a nominal and a defective image, three are in order:

        >>> image_auroc([0, 0, 1, 1], [1, 3, 2, 4])
        0.75
    """
    truth, values = checked(labels, scores)
    if truth.all():
        raise DataError("no nominal image: the AUROC is not defined")
    return float(roc_auc_score(truth, values))


def f1_max(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """Best F1 of the rule "anomalous above the threshold", exact over all thresholds.

    Args:
        labels: (N,) 0 nominal, 1 defective (or bool).
        scores: (N,) finite, larger is more anomalous.

    Returns:
        F1 in (0, 1] and its threshold, half way between two neighbouring scores, so that ``>`` and ``>=``
        mean the same; of equally good ones the largest, which rejects the fewest nominal images. When it is
        best to reject everything, as without a nominal image, it is the next float below the smallest score.

    Raises:
        DataError: there is no defective image, or the arrays do not fit.

    Example:
        Above 1.5 lie both defective images and one nominal one: F1 = 2 * 2 / (3 + 2).

        >>> f1_max([0, 0, 1, 1], [1, 3, 2, 4])
        (0.8, 1.5)
    """
    truth, values = checked(labels, scores)
    levels, rejected, found = rejections(truth, values)
    f1 = 2 * found / (rejected + truth.sum())
    best = int(np.argmax(f1))
    below = levels[best + 1] if best + 1 < levels.size else -np.inf
    middle = below + (levels[best] - below) / 2 if np.isfinite(below) else np.nextafter(levels[best], -np.inf)
    return float(f1[best]), float(middle)


def rejections(
    labels: NDArray[np.bool_], scores: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Distinct scores in descending order, images at or above each, and defective ones among them."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last_of_tie = np.concatenate([ranked[1:] != ranked[:-1], [True]])
    return (
        ranked[last_of_tie],
        np.arange(1, ranked.size + 1)[last_of_tie],
        np.cumsum(labels[order])[last_of_tie],
    )


def pixel_auroc(masks: Iterable[ArrayLike], maps: Iterable[ArrayLike]) -> float:
    """Area under the ROC curve of all pixels of all images.

    Args:
        masks: N times (H, W) bool, True where defective; one (N, H, W) array or any iterable of images,
            which may differ in size.
        maps: N times (H, W) finite scores, read as float32; an iterable is consumed one map at a time.

    Returns:
        A value in [0, 1]; exact up to 262,144 distinct scores, in bounded memory beyond that;
        `PixelMetrics` states the error then, below 1e-4 for scores of a few magnitudes.

    Raises:
        DataError: no pixel or every pixel is defective, shapes differ, or a score is not finite.

    Example:
        One of the three nominal pixels has a larger score than the defective one:

        >>> round(pixel_auroc([[[True, False, False, False]]], [[[3.0, 4.0, 2.0, 1.0]]]), 4)
        0.6667
    """
    return _pixel_result(masks, maps, 0.3).pixel_auroc


def aupro(masks: Iterable[ArrayLike], maps: Iterable[ArrayLike], limit: float = 0.3) -> float:
    """Area under the per-region-overlap curve up to a false-positive rate, divided by that rate.

    Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, section 5.2: regions are the
    8-connected components of each mask, the false-positive rate is that of all nominal pixels of all images,
    and the curve is linear between thresholds.

    Args:
        masks: as in `pixel_auroc`.
        maps: as in `pixel_auroc`.
        limit: false-positive rate in (0, 1].

    Returns:
        A value in [0, 1]; exact or stated as that of `pixel_auroc`.

    Raises:
        DataError: as in `pixel_auroc`, or the limit is out of range.

    Example:
        Of two regions one is found before any nominal pixel, the other after the last one:

        >>> aupro([[[True, False, True]]], [[[3.0, 2.0, 1.0]]], limit=1.0)
        0.5
    """
    return _pixel_result(masks, maps, limit).aupro


def d_prime(labels: ArrayLike, scores: ArrayLike) -> float:
    """Distance of the two classes' mean scores in units of their pooled standard deviation.

    d' = (mean of defective - mean of nominal) / sqrt((var of nominal + var of defective) / 2), with the
    variances of the samples (Green and Swets, "Signal Detection Theory", 1966).

    Raises:
        DataError: a class has fewer than two images, or no class has any spread.

    Example:
        Means 2 and 6, and a variance of 2 in both classes: 4 / sqrt(2).

        >>> round(d_prime([0, 0, 1, 1], [1, 3, 5, 7]), 3)
        2.828
    """
    truth, values = checked(labels, scores)
    nominal, defective = values[~truth], values[truth]
    if min(nominal.size, defective.size) < 2:
        raise DataError("d' needs two nominal and two defective images")
    spread = np.sqrt((nominal.var(ddof=1) + defective.var(ddof=1)) / 2)
    if spread == 0:
        raise DataError("all scores of a class are equal: d' is not defined")
    return float((defective.mean() - nominal.mean()) / spread)


def checked(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Labels as (N,) bool and scores as (N,) float64.

    Raises:
        DataError: the shapes differ, a score is not finite, a label is neither 0 nor 1, or none is 1.
    """
    raw, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if raw.ndim != 1 or raw.shape != values.shape:
        raise DataError(f"labels of shape {raw.shape}, scores of shape {values.shape}: both must be (N,)")
    if not np.isfinite(values).all():
        raise DataError(f"score {int(np.flatnonzero(~np.isfinite(values))[0])} is NaN or infinite")
    if not np.isin(raw, (0, 1)).all():
        raise DataError("labels must be 0 (nominal) or 1 (defective)")
    truth = raw.astype(bool)
    if not truth.any():
        raise DataError("no defective image: the metric is not defined")
    return truth, values


def placements(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N,) share of the other class that each image is on the right side of; ties count one half.

    Their mean over either class is the AUROC. Arguments as `checked` returns them, with both classes.
    """
    placed = np.empty(truth.size)
    for side in (True, False):
        own, other = scores[truth == side], np.sort(scores[truth != side])
        below = (np.searchsorted(other, own, "left") + np.searchsorted(other, own, "right")) / 2 / other.size
        placed[truth == side] = below if side else 1 - below
    return placed


def _pixel_result(masks: Iterable[ArrayLike], maps: Iterable[ArrayLike], limit: float) -> PixelResult:
    metrics = PixelMetrics()
    for mask, anomaly_map in itertools.zip_longest(masks, maps):
        if mask is None or anomaly_map is None:
            raise DataError("there must be as many masks as maps")
        metrics.update(mask, anomaly_map)
    return metrics.compute(limit)
