"""Anomaly maps as one histogram an image: pixel metrics of any resample of images, without the maps.

Bins are the upper bits of a float32 in the order of its values: 512 an octave, the same for every image and
known before the first map, so that nothing is read twice. Pixels of one bin count as tied, which moves an
area by less than the share of pairs that share a bin.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from safetensors.numpy import load_file, save_file

from reconpatch.errors import DataError
from reconpatch.evaluation.metrics.pixel_metrics import region_weights
from reconpatch.storage.atomic_files import atomic_file

_SHIFT = np.uint32(14)  # of the 23 bits of the mantissa 9 are kept


@dataclass(frozen=True)
class PixelHistograms:
    """Pixels of N images in B bins of ascending score.

    Attributes:
        nominal: (N, B) number of nominal pixels.
        defective: (N, B) number of defective pixels.
        regions: (N, B) the same, each pixel weighing one over the size of its ground-truth region.
        measured: (N,) False where an image has no usable ground truth; its rows are 0.
    """

    nominal: NDArray[np.float32]
    defective: NDArray[np.float32]
    regions: NDArray[np.float32]
    measured: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.measured)

    def take(self, rows: NDArray[np.intp]) -> "PixelHistograms":
        """The same of chosen images, in their order."""
        return PixelHistograms(
            self.nominal[rows], self.defective[rows], self.regions[rows], self.measured[rows]
        )

    def save(self, path: Path) -> None:
        """Write as safetensors; equal histograms are equal bytes."""
        with atomic_file(path) as temporary:
            save_file({name: np.ascontiguousarray(getattr(self, name)) for name in _NAMES}, temporary)

    @classmethod
    def load(cls, path: Path) -> "PixelHistograms":
        """Read what `save` wrote.

        Raises:
            DataError: the file is not there, cut short, or holds something else.
        """
        try:
            return cls(**{name: load_file(path)[name] for name in _NAMES})
        except Exception as error:  # safetensors raises its own
            raise DataError(f"{path}: no pixel histograms ({error}); evaluate the detector again") from None


_NAMES = ("nominal", "defective", "regions", "measured")


class HistogramRun:
    """Gathers `PixelHistograms`, one image at a time."""

    def __init__(self) -> None:
        self._images: list[tuple[NDArray[np.uint32], NDArray[np.float64]] | None] = []

    def add(self, mask: ArrayLike | None, anomaly_map: ArrayLike, counted: ArrayLike | None = None) -> None:
        """Add one image.

        Args:
            mask: (H, W) bool, True where defective; None where the ground truth is not known.
            anomaly_map: (H, W) finite scores, read as float32.
            counted: (H, W) bool, the pixels that count, with all defective ones; None: all.

        Raises:
            DataError: the shapes differ.
        """
        if mask is None:
            self._images.append(None)
            return
        truth, scores = np.asarray(mask, dtype=bool), np.asarray(anomaly_map, dtype=np.float32)
        if truth.shape != scores.shape:
            raise DataError(f"mask of shape {truth.shape}, map of shape {scores.shape}: must be the same")
        bins, inverse = np.unique(_bins(scores.ravel()), return_inverse=True)
        counts = np.zeros((3, bins.size))
        inside = truth.ravel()
        outside = ~inside if counted is None else ~inside & np.ravel(counted)
        counts[0] = np.bincount(inverse[outside], minlength=bins.size)
        if inside.any():
            counts[1] = np.bincount(inverse[inside], minlength=bins.size)
            counts[2] = np.bincount(inverse[inside], region_weights(truth), minlength=bins.size)
        self._images.append((bins, counts))

    def finish(self) -> PixelHistograms:
        """All images so far, over the bins that any of them uses."""
        known = [image for image in self._images if image is not None]
        every = np.unique(np.concatenate([bins for bins, _ in known])) if known else np.empty(0, np.uint32)
        tables = np.zeros((3, len(self._images), every.size), np.float32)
        for row, image in enumerate(self._images):
            if image is not None:
                tables[:, row, np.searchsorted(every, image[0])] = image[1]
        measured = np.array([image is not None for image in self._images], bool)
        return PixelHistograms(tables[0], tables[1], tables[2], measured)


def _bins(scores: NDArray[np.float32]) -> NDArray[np.uint32]:
    bits = (scores + np.float32(0)).view(np.int32)  # -0 becomes 0, which has other bits
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(np.uint32) ^ np.uint32(0x80000000)
    kept: NDArray[np.uint32] = ordered >> _SHIFT
    return kept


def resampled_pixel_auroc(histograms: PixelHistograms, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pixel AUROC under R sets of image weights, (R, N), at once: (R,), NaN where a class has no weight."""
    return _areas(weights @ histograms.nominal, weights @ histograms.defective, 1.0)


def resampled_aupro(
    histograms: PixelHistograms, weights: NDArray[np.float64], limit: float = 0.3
) -> NDArray[np.float64]:
    """AUPRO up to a false-positive rate under R sets of image weights, (R, N), at once: (R,)."""
    return _areas(weights @ histograms.nominal, weights @ histograms.regions, limit) / limit


def _areas(negative: NDArray[np.float64], positive: NDArray[np.float64], limit: float) -> NDArray[np.float64]:
    """Area under the positive over the negative share at or above a bin, up to ``limit`` of the latter."""
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y = (
            np.pad(np.cumsum(part[:, ::-1], axis=1) / part.sum(axis=1, keepdims=True), ((0, 0), (1, 0)))
            for part in (negative, positive)
        )
        width = np.diff(x, axis=1)
        inside = np.clip(limit - x[:, :-1], 0, width)
        # The curve is linear within a bin; the last one is cut where the limit falls.
        slope = np.where(width > 0, np.diff(y, axis=1) / width, 0)
        areas: NDArray[np.float64] = (inside * (y[:, :-1] + slope * inside / 2)).sum(axis=1)
    return np.where(np.isfinite(x[:, -1]) & np.isfinite(y[:, -1]), areas, np.nan)
