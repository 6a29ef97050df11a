"""Pixel metrics over any number of anomaly maps, in bounded memory."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from reconpatch.errors import DataError
from reconpatch.evaluation.metrics.pixel_histograms import IMAGE_SHIFT, PixelHistograms, area_error, areas
from reconpatch.evaluation.metrics.score_counts import RunningCounts, ScoreCounts
from reconpatch.model.preprocess import EIGHT_CONNECTED

_NOMINAL, _DEFECTIVE, _REGIONS = range(3)  # masses of a count


@dataclass(frozen=True)
class PixelResult:
    """Pixel metrics and how far they may be off.

    Attributes:
        pixel_auroc: area under the ROC of all pixels, in [0, 1].
        aupro: area under the per-region-overlap curve up to the limit, divided by it, in [0, 1].
        pixel_auroc_error: largest possible error of ``pixel_auroc``; 0 up to 262,144 distinct scores.
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
    is the true-positive rate of pixels weighted by one over their region's size, so three counts of scores
    give both curves: nominal pixels, defective pixels, and defective pixels by region.

    Bins of score hold one distinct score each up to 262,144 of them, and join neighbouring ones beyond. The
    error stated then is the most that those bins allow: 2e-5 for millions of pixels within a few magnitudes
    (docs/benchmarks.md), more where the scores spread so widely that the bins become wide.

    Weighed: torchmetrics' AUROC keeps every score or bins at thresholds chosen before, and has no AUPRO;
    anomalib's AUPRO keeps every map.

    Args:
        keep_images: keep a coarse histogram of each image too, for `histograms`.
    """

    def __init__(self, keep_images: bool = False) -> None:
        self._nominal, self._defective = RunningCounts(), RunningCounts()
        self._images: list[ScoreCounts | None] | None = [] if keep_images else None

    def skip(self) -> None:
        """Count an image whose ground truth is not known among the images, and in no metric."""
        if self._images is not None:
            self._images.append(None)

    def update(self, mask: ArrayLike, anomaly_map: ArrayLike, counted: ArrayLike | None = None) -> None:
        """Add one image.

        Args:
            mask: (H, W) bool, True where defective; 8-connected pixels are one region.
            anomaly_map: (H, W) finite scores, larger is more anomalous; read as float32.
            counted: (H, W) bool, the pixels that count, with all defective ones; None: all.

        Raises:
            DataError: the shapes differ, or a score is not finite.
        """
        truth, scores = np.asarray(mask).astype(bool, copy=False), np.asarray(anomaly_map, dtype=np.float32)
        if truth.ndim != 2 or truth.shape != scores.shape:
            raise DataError(
                f"mask of shape {truth.shape} and anomaly map of shape {scores.shape}: both must be the same "
                "(H, W); move the mask as its image was moved"
            )
        nominal = ~truth if counted is None else ~truth & counted
        kept, defect = scores[nominal], scores[truth]
        if not (np.isfinite(kept).all() and np.isfinite(defect).all()):
            raise DataError("an anomaly map holds NaN or infinite values; scores must be finite")
        weights = np.stack([np.ones(defect.size), region_weights(truth)]) if defect.size else np.ones((2, 0))
        parts = ScoreCounts.of(kept), ScoreCounts.of(defect, weights)
        self._nominal.add(parts[0])
        self._defective.add(parts[1])
        if self._images is not None:
            self._images.append(_together(*parts, IMAGE_SHIFT))

    def histograms(self) -> PixelHistograms:
        """A histogram of each image so far; of none unless ``keep_images``."""
        return PixelHistograms.of(self._images or [])

    def counts(self) -> ScoreCounts:
        """Masses of nominal pixels, defective pixels and the latter by region, over common bins.

        Raises:
            DataError: there is no defective or no nominal pixel.
        """
        nominal, defective = self._nominal.total(), self._defective.total()
        if nominal is None or defective is None or not len(defective.bins):
            raise DataError("no mask has a defective pixel: pixel metrics are not defined")
        if not len(nominal.bins):
            raise DataError("every pixel of every mask is defective: pixel metrics are not defined")
        return _together(nominal, defective, max(nominal.shift, defective.shift))

    def compute(self, limit: float = 0.3) -> PixelResult:
        """Metrics of all images so far.

        Args:
            limit: false-positive rate in (0, 1] up to which the per-region overlap is integrated.

        Raises:
            DataError: there is no defective or no nominal pixel, or the limit is out of range.
        """
        counts = self.counts()
        (auroc, auroc_error), (aupro, aupro_error) = auroc_of_counts(counts), aupro_of_counts(counts, limit)
        return PixelResult(auroc, aupro, auroc_error, aupro_error, *f1_of_counts(counts))


def auroc_of_counts(counts: ScoreCounts, _: float = 1.0) -> tuple[float, float]:
    """Pixel AUROC of `PixelMetrics.counts`, and its largest possible error."""
    area = areas(counts.masses[[_NOMINAL]], counts.masses[[_DEFECTIVE]], 1.0)
    return float(area[0]), area_error(counts, _NOMINAL, _DEFECTIVE, 1.0)


def aupro_of_counts(counts: ScoreCounts, limit: float) -> tuple[float, float]:
    """AUPRO of `PixelMetrics.counts` up to a false-positive rate, and its largest possible error.

    Raises:
        DataError: the limit is not in (0, 1].
    """
    if not 0 < limit <= 1:
        raise DataError(f"limit {limit}: must lie in (0, 1]; 0.3 is usual")
    area = areas(counts.masses[[_NOMINAL]], counts.masses[[_REGIONS]], limit)
    return float(area[0]) / limit, area_error(counts, _NOMINAL, _REGIONS, limit) / limit


def f1_of_counts(counts: ScoreCounts, _: float = 1.0) -> tuple[float, float]:
    """The best F1 of pixels at or above one threshold, and that threshold, of `PixelMetrics.counts`."""
    negative, positive = counts.masses[[_NOMINAL, _DEFECTIVE]]
    found, wrong = (np.cumsum(part[::-1])[::-1] for part in (positive, negative))
    f1 = np.where(positive > 0, 2 * found / (found + wrong + positive.sum()), 0)
    best = int(np.argmax(f1))
    return float(f1[best]), float(counts.lowest[best])


def _together(nominal: ScoreCounts, defective: ScoreCounts, shift: int) -> ScoreCounts:
    """The three masses over common bins."""
    parts = (nominal.coarser(shift), slice(0, 1)), (defective.coarser(shift), slice(1, 3))
    return ScoreCounts.sum([part.as_rows(rows, 3) for part, rows in parts])


def region_weights(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """One over the size of its 8-connected region, for each True pixel in row order."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    window = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    labels, _ = ndimage.label(window, structure=EIGHT_CONNECTED)
    inside = labels[window]
    weights: NDArray[np.float64] = 1.0 / np.bincount(inside)[inside]
    return weights
