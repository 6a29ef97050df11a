"""What can be said of a detector when no test image is a labelled defect."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reconpatch.calibration.conformal import NominalScores
from reconpatch.calibration.threshold import conformal_threshold
from reconpatch.data.images import read_image
from reconpatch.data.manifest import image_paths
from reconpatch.data.reviews import contradicted
from reconpatch.errors import DataError
from reconpatch.evaluation.defect_placement import KINDS, add_defect
from reconpatch.evaluation.detector_protocol import Detector
from reconpatch.evaluation.ground_truth import counted_pixels, moved_defect
from reconpatch.evaluation.metrics.image_metrics import image_auroc
from reconpatch.evaluation.metrics.pixel_metrics import PixelMetrics
from reconpatch.evaluation.score_summary import Metrics, Reasons, record
from reconpatch.progress import track
from reconpatch.settings import Settings

_MOST_IMAGES = 12
_TRIES = 50
_BRIGHTNESS_STEP = 5
_NO_HELDOUT = "no nominal image is known to be held out of this detector's fit"
_HELDOUT_NAMES = ("heldout_false_reject_rate", "heldout_false_reject_low", "heldout_false_reject_high")
_MEASURED_NAMES = ("synthetic_image_auroc", "synthetic_pixel_auroc", "synthetic_aupro", "synthetic_n")
_VERDICT_NAMES = ("stability", "synthetic_detection_rate")


def evaluate_unlabelled(
    detector: Detector,
    held: pd.DataFrame,
    nominal: pd.DataFrame,
    settings: Settings,
    metrics: Metrics,
    reasons: Reasons,
) -> float | None:
    """Add the figures that need no real defect.

    heldout_false_reject_rate: share of the held-out nominal images above the threshold that the OTHER groups
    of held-out images give (on the images that set it, a threshold would only confirm itself).
    heldout_false_reject_low, _high: 95 % range of the true rate (from the calibration).
    stability: share of nominal images whose verdict stays when they are 5 of 255 grey levels brighter and
    darker. synthetic_...: AUROC, AUPRO and detection rate on synthetic defects, see `synthetic`.

    Args:
        detector: a fitted one.
        held: the manifest's rows of images that the detector's fit held out (`heldout_rows`).
        nominal: the manifest's rows of the nominal test images that are measured; synthetic defects and
            stability are of these, or without any of the held-out ones.
        settings: ``seed`` and ``evaluate.aupro_limit``.
        metrics: added to.
        reasons: added to.

    Returns:
        Seconds an image that the detector took for these and their variants, without decoding; None: there
        were none.
    """
    record(metrics, reasons, _HELDOUT_NAMES, lambda: _heldout(detector, held))
    base = image_paths(nominal if len(nominal) else held)[:_MOST_IMAGES]
    seen = _disturb(detector, base, settings.seed)
    limit = settings.evaluate.aupro_limit
    record(metrics, reasons, _MEASURED_NAMES, lambda: seen.measured(limit))
    record(metrics, reasons, _VERDICT_NAMES, lambda: seen.verdicts(detector.calibration is not None))
    return seen.seconds / seen.shown if seen.shown else None


def heldout_rows(detector: Detector, table: pd.DataFrame) -> pd.DataFrame:
    """Rows of nominal training images that this very detector's fit held out, known by their content.

    Without those that a person judged bad since.
    """
    train = (table["split"] == "train") & (table["label"] == 0) & table["problem"].isna()
    train &= ~contradicted(table)
    return table[train & table["sha256"].isin(detector.training_set.holdout)]


def _heldout(detector: Detector, held: pd.DataFrame) -> tuple[float, float, float]:
    calibration = detector.calibration
    if calibration is None or not len(held):
        raise DataError(_NO_HELDOUT)
    scores = np.array([prediction.score for prediction in detector.stream(image_paths(held))])
    rate = leave_group_out_rate(scores, held["group"].tolist(), calibration.threshold.false_reject_rate)
    return rate, *calibration.threshold.interval


def leave_group_out_rate(
    scores: NDArray[np.float64], groups: Sequence[str], false_reject_rate: float
) -> float:
    """Share of nominal images above the conformal threshold that the other groups' images give.

    Args:
        scores: (n,) scores of held-out nominal images.
        groups: the group of each.
        false_reject_rate: asked of each threshold, or the smallest that the other images can promise.

    Raises:
        DataError: there are fewer than two groups.
    """
    members = np.asarray(groups, dtype=str)
    names = np.unique(members)
    if len(names) < 2:
        raise DataError("the held-out images are one group: no other group can judge it")
    rejected = 0
    for name in names:
        own = members == name
        others = NominalScores.from_scores(scores[~own], members[~own].tolist())
        rate = max(false_reject_rate, 1 / (others.groups + 1))
        rejected += int(np.sum(scores[own] > conformal_threshold(others, rate).value))
    return rejected / len(scores)


@dataclass
class _Disturbed:
    """What a detector says of nominal images and of the same ones with synthetic defects."""

    nominal: list[float] = field(default_factory=list)
    defective: list[float] = field(default_factory=list)
    found: list[bool | None] = field(default_factory=list)
    stable: list[bool] = field(default_factory=list)
    pixels: PixelMetrics = field(default_factory=PixelMetrics)
    seconds: float = 0.0
    shown: int = 0

    def measured(self, limit: float) -> tuple[float, float, float, int]:
        self._check()
        labels = np.repeat([0, 1], [len(self.nominal), len(self.defective)])
        pixels = self.pixels.compute(limit)
        auroc = image_auroc(labels, self.nominal + self.defective)
        return auroc, pixels.pixel_auroc, pixels.aupro, len(self.defective)

    def verdicts(self, calibrated: bool) -> tuple[float, float]:
        self._check()
        if not calibrated:
            raise DataError("the detector is not calibrated: it gives no verdicts")
        return float(np.mean(self.stable)), float(np.mean([bool(verdict) for verdict in self.found]))

    def _check(self) -> None:
        if not self.nominal:
            raise DataError(f"{_NO_HELDOUT}, and there is no nominal test image")


def _disturb(detector: Detector, base: list[Path], seed: int) -> _Disturbed:
    """Show each image as it is, darker, brighter, and with one defect of each kind, in one go."""
    size = detector.settings.features.image_size
    nothing, counted = np.zeros((size, size), dtype=bool), counted_pixels(detector)
    seen = _Disturbed()
    for number, path in enumerate(track(base, "synthetic")):
        image = read_image(path)
        defects = _visible_defects(image, detector, seed + number)
        views = [image, _brighter(image, -_BRIGHTNESS_STEP), _brighter(image, _BRIGHTNESS_STEP)]
        views += [defect for defect, _ in defects]
        start = time.perf_counter()
        plain, darker, brighter, *disturbed = detector.stream(
            views
        )  # arrays: no cache answers for the network
        seen.seconds += time.perf_counter() - start
        seen.shown += len(views)
        seen.nominal.append(plain.score)
        seen.stable.append(plain.is_anomalous == darker.is_anomalous == brighter.is_anomalous)
        seen.pixels.update(nothing, plain.anomaly_map, counted)
        for (_, mask), prediction in zip(defects, disturbed, strict=True):
            seen.defective.append(prediction.score)
            seen.found.append(prediction.is_anomalous)
            seen.pixels.update(mask, prediction.anomaly_map, counted)
    return seen


def _visible_defects(
    image: NDArray[np.uint8], detector: Detector, seed: int
) -> list[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
    """The image with one defect of each kind that the region of interest shows, and its mask there (S, S).

    A kind that hits the region in none of so many tries is left out.
    """
    found = []
    for kind in sorted(KINDS):
        for attempt in range(_TRIES):
            defect = add_defect(image, kind, seed + attempt * _MOST_IMAGES)
            mask = moved_defect(defect.mask, detector)
            if mask is not None:
                found.append((defect.image, mask))
                break
    return found


def _brighter(image: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    return np.clip(image.astype(np.int16) + step, 0, 255).astype(np.uint8)
