"""What a detector says of one image."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from PIL import Image

from reconpatch.features.dataset import ImageLike
from reconpatch.scoring.calibration import Band, Calibration


@dataclass(frozen=True)
class Prediction:
    """What the detector says of one image.

    Attributes:
        path: the image's path as it was given; None for an array or a PIL image.
        score: image score, larger is more anomalous: a distance in feature space, 0 or larger, or of an
            ensemble robust standard deviations above a typical nominal image.
        is_anomalous: whether the score lies above the threshold; None when not calibrated.
        anomaly_map: (S, S) float32 in the same units of pixels, S = ``features.image_size``; outside the
            region of interest 0, or of an ensemble what its members give for a distance of 0.
        embedding: (E,) float16, what the frozen network saw in a few numbers (`summarise_patches`).
        false_reject_probability: the score on a scale that people can read: how probable a score as large is
            for a good image, in [1/(n+1), 1] with n calibration groups; None when not calibrated.
        band: ``accept``, ``review`` or ``reject``; None when not calibrated.
    """

    path: str | None
    score: float
    is_anomalous: bool | None
    anomaly_map: np.ndarray
    embedding: np.ndarray
    false_reject_probability: float | None = None
    band: Band | None = None


def judge(
    path: str | None,
    score: float,
    anomaly_map: np.ndarray,
    embedding: np.ndarray,
    calibration: Calibration | None,
) -> Prediction:
    """A score with what the calibration makes of it; without one it is a score alone."""
    if calibration is None:
        return Prediction(path, score, None, anomaly_map, embedding)
    probability = float(calibration.nominal.false_reject_probability(score))
    band = calibration.band(score)
    return Prediction(path, score, band == "reject", anomaly_map, embedding, probability, band)


def as_list(images: ImageLike | Iterable[ImageLike]) -> list[ImageLike]:
    """One image or many as a list."""
    single = isinstance(images, (str, Path, np.ndarray, Image.Image))
    return cast("list[ImageLike]", [images] if single else list(images))  # type: ignore[arg-type]
