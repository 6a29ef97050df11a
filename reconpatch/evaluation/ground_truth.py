"""Ground-truth masks, moved as their images are, against anomaly maps."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reconpatch.data.images import read_mask
from reconpatch.errors import DataError
from reconpatch.evaluation.detector_protocol import Detector, Prediction
from reconpatch.evaluation.metrics.pixel_histograms import PixelHistograms
from reconpatch.evaluation.metrics.pixel_metrics import PixelMetrics
from reconpatch.evaluation.score_summary import Metrics, Reasons, record_pixels
from reconpatch.model.preprocess import prepare_mask
from reconpatch.settings import Settings


def read_ground_truth(row: Any, root: Path, settings: Settings) -> NDArray[np.bool_] | None:
    """(H, W) bool ground truth of a manifest row; None for a defect that no mask shows.

    A defect whose mask is absent or empty at the threshold lies somewhere, unmarked: none of its pixels can
    be called nominal, so such an image is left out of pixel metrics.

    Raises:
        DataError: the mask cannot be read or is not as large as its image.
    """
    if row.label == 0:
        return np.zeros((int(row.height), int(row.width)), dtype=bool)
    if row.mask_path is None or pd.isna(row.mask_path):
        return None
    path = root / row.mask_path
    mask = read_mask(path, settings.data.mask_threshold)
    if mask.shape != (row.height, row.width):
        raise DataError(
            f"{path}: is {mask.shape[1]} x {mask.shape[0]} pixels, but its image {root / row.path} is "
            f"{row.width} x {row.height}; give a mask of the image's size"
        )
    return mask if mask.any() else None


def ground_truth(row: Any, root: Path, settings: Settings, detector: Detector) -> NDArray[np.bool_] | None:
    """(S, S) bool: `read_ground_truth`, moved as its image is; None also where nothing of a defect is left.

    Of a defect counts what lies in the detector's region of interest.

    Raises:
        DataError: as `read_ground_truth`.
    """
    size = detector.settings.features.image_size
    if row.label == 0:
        return np.zeros((size, size), dtype=bool)
    mask = read_ground_truth(row, root, settings)
    return None if mask is None else moved_defect(mask, detector)


def moved_defect(mask: NDArray[np.bool_], detector: Detector) -> NDArray[np.bool_] | None:
    """A (H, W) mask of a defect as the detector's maps show it, (S, S); None where nothing is left of it."""
    moved = prepare_mask(mask, detector.settings.features)
    if detector.region is not None:
        moved &= detector.region.pixels
    return moved if moved.any() else None


def counted_pixels(detector: Detector) -> NDArray[np.bool_] | None:
    """(S, S) bool: the pixels of its maps that count; None: all."""
    return None if detector.region is None else detector.region.pixels


class PixelRun:
    """Pixel metrics of the images whose ground truth is known: nominal ones, and defects with a mask.

    Args:
        root: the category's.
        settings: section ``data``.
        detector: whose maps are measured.
    """

    def __init__(self, root: Path, settings: Settings, detector: Detector) -> None:
        self._root = root
        self._settings = settings
        self._detector = detector
        self._counted = counted_pixels(detector)
        self._metrics = PixelMetrics(keep_images=True)
        self._images = 0
        self._without = 0

    def add(self, row: Any, prediction: Prediction) -> None:
        """Measure the map of a manifest row.

        Raises:
            DataError: see `ground_truth`.
        """
        mask = ground_truth(row, self._root, self._settings, self._detector)
        if mask is None:
            self._metrics.skip()
            self._without += 1
            return
        self._metrics.update(mask, prediction.anomaly_map, self._counted)
        self._images += 1

    @property
    def histograms(self) -> PixelHistograms:
        """One histogram an image so far."""
        return self._metrics.histograms()

    def finish(self, metrics: Metrics, reasons: Reasons, limit: float) -> None:
        """Add the pixel metrics, or why there are none, and how many images they are from."""
        metrics["n_test_pixel"] = self._images
        metrics["n_test_without_mask"] = self._without
        record_pixels(metrics, reasons, self._metrics, limit)
