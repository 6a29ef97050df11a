"""Pixel metrics over any number of anomaly maps, in bounded memory."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from reconpatch.errors import DataError
from reconpatch.evaluation.metrics.score_sketch import Floats, Masses, ScoreSketch
from reconpatch.model.preprocess import EIGHT_CONNECTED


@dataclass(frozen=True)
class PixelResult:
    """Pixel metrics and how far they may be off.

    Attributes:
        pixel_auroc: area under the ROC of all pixels, in [0, 1].
        aupro: area under the per-region-overlap curve up to the limit, divided by it, in [0, 1].
        pixel_auroc_error: largest possible error of ``pixel_auroc``; 0 up to 4 million pixels.
        aupro_error: the same of ``aupro``.
        f1_max: best F1 of pixels at or above one threshold, in (0, 1].
        f1_threshold: that threshold, in units of the maps.
    """

    pixel_auroc: float
    aupro: float
    pixel_auroc_error: float
    aupro_error: float
    f1_max: float
    f1_threshold: float


class PixelMetrics:
    """Pixel AUROC and AUPRO, fed one map at a time; no map is kept.

    The per-region overlap (Bergmann et al., "The MVTec Anomaly Detection Dataset", IJCV 2021, section 5.2)
    at a threshold is the mean over ground-truth regions of the share of their pixels at or above it. That
    is the true-positive rate of pixels weighted by one over their region's size, so three weighted
    distributions give both curves: nominal pixels, defective pixels, and defective pixels by region.
    """

    def __init__(self) -> None:
        self._nominal = ScoreSketch()
        self._defective = ScoreSketch()
        self._regions = ScoreSketch()

    def update(self, mask: ArrayLike, anomaly_map: ArrayLike, counted: ArrayLike | None = None) -> None:
        """Add one image.

        Args:
            mask: (H, W) bool, True where defective; 8-connected pixels are one region.
            anomaly_map: (H, W) finite scores, larger is more anomalous; read as float32.
            counted: (H, W) bool, the pixels that count, with all defective ones; None: all.

        Raises:
            DataError: the shapes differ, or a score is not finite.
        """
        truth, scores = np.asarray(mask).astype(bool, copy=False), np.asarray(anomaly_map)
        if truth.ndim != 2 or truth.shape != scores.shape:
            raise DataError(
                f"mask of shape {truth.shape} and anomaly map of shape {scores.shape}: both must be the same "
                "(H, W); move the mask as its image was moved"
            )
        nominal = ~truth if counted is None else ~truth & counted
        self._nominal.add(scores[nominal])
        if not truth.any():
            return
        self._defective.add(scores[truth])
        self._regions.add(scores[truth], region_weights(truth))

    def compute(self, limit: float = 0.3) -> PixelResult:
        """Metrics of all images so far.

        Args:
            limit: false-positive rate in (0, 1] up to which the per-region overlap is integrated.

        Raises:
            DataError: there is no defective or no nominal pixel, or the limit is out of range.
        """
        if not 0 < limit <= 1:
            raise DataError(f"limit {limit}: must lie in (0, 1]; 0.3 is usual")
        if not self._defective.total:
            raise DataError("no mask has a defective pixel: pixel metrics are not defined")
        if not self._nominal.total:
            raise DataError("every pixel of every mask is defective: pixel metrics are not defined")
        nominal, defective = self._nominal.points(), self._defective.points()
        across = self._nominal.rank_error
        return PixelResult(
            _area(nominal, defective, 1.0),
            _area(nominal, self._regions.points(), limit) / limit,
            across + self._defective.rank_error,
            across / limit + self._regions.rank_error,
            *_best_f1(nominal, defective),
        )


def region_weights(mask: NDArray[np.bool_]) -> Masses:
    """One over the size of its 8-connected region, for each True pixel in row order."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    window = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    labels, _ = ndimage.label(window, structure=EIGHT_CONNECTED)
    inside = labels[window]
    weights: Masses = 1.0 / np.bincount(inside)[inside]
    return weights


def _area(negative: tuple[Floats, Masses], positive: tuple[Floats, Masses], limit: float) -> float:
    """Area below positive over negative share at or above t, up to ``limit`` of the negative one."""
    thresholds = np.union1d(negative[0], positive[0])[::-1]
    x = np.concatenate([[0.0], _share_from(*negative, thresholds)])
    y = np.concatenate([[0.0], _share_from(*positive, thresholds)])
    inside = int(np.searchsorted(x, limit, side="right"))
    area = float(np.trapezoid(y[:inside], x[:inside]))
    if inside < x.size:
        left, right = inside - 1, inside
        height = y[left] + (y[right] - y[left]) * (limit - x[left]) / (x[right] - x[left])
        area += float((limit - x[left]) * (y[left] + height) / 2)
    return area


def _best_f1(negative: tuple[Floats, Masses], positive: tuple[Floats, Masses]) -> tuple[float, float]:
    thresholds = positive[0]
    found = _share_from(*positive, thresholds) * positive[1].sum()
    rejected = found + _share_from(*negative, thresholds) * negative[1].sum()
    f1 = 2 * found / (rejected + positive[1].sum())
    best = int(np.argmax(f1))
    return float(f1[best]), float(thresholds[best])


def _share_from(values: Floats, masses: Masses, thresholds: Floats) -> Masses:
    """Share of the mass at or above each threshold."""
    above = np.concatenate([np.cumsum(masses[::-1])[::-1], [0.0]])
    share: Masses = above[np.searchsorted(values, thresholds, side="left")] / above[0]
    return share
