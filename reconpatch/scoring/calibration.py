"""What held-out nominal images say about a detector's scores and maps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from reconpatch.scoring.normalisation import RobustStatistics
from reconpatch.scoring.threshold import Threshold, conformal_threshold

# Neighbouring map pixels say the same thing after the Gaussian; every fourth keeps the statistics
# exact enough and the memory of a thousand held-out maps below 13 MB.
PIXEL_STRIDE = 4


@dataclass(frozen=True)
class Calibration:
    """Statistics of nominal images that neither trained f nor were coreset candidates.

    Attributes:
        scores: median and MAD of image scores.
        pixels: median and MAD of anomaly-map pixels.
        threshold: image-score threshold at a chosen false-reject rate.
        carried_over: whether an update has changed the bank since, without the images to calibrate on.
    """

    scores: RobustStatistics
    pixels: RobustStatistics
    threshold: Threshold
    carried_over: bool = False

    def to_dict(self) -> dict[str, Any]:
        """A JSON object that `from_dict` reads back."""
        return {
            "scores": self.scores.to_dict(),
            "pixels": self.pixels.to_dict(),
            "threshold": self.threshold.to_dict(),
            "carried_over": self.carried_over,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        """Inverse of `to_dict`."""
        return cls(
            RobustStatistics.from_dict(values["scores"]),
            RobustStatistics.from_dict(values["pixels"]),
            Threshold.from_dict(values["threshold"]),
            bool(values["carried_over"]),
        )


def calibrate_scores(
    scores: np.ndarray, pixels: np.ndarray, *, false_reject_rate: float | None = None
) -> Calibration:
    """Statistics and threshold of one detector.

    Args:
        scores: (n,) image scores of held-out nominal images, by the detector that ships.
        pixels: (m,) pixels of their anomaly maps.
        false_reject_rate: share of nominal images that may be rejected, in (0, 1); None takes the
            larger of 1 % and 1/(n+1).
    """
    return Calibration(
        RobustStatistics.from_scores(scores),
        RobustStatistics.from_scores(pixels),
        conformal_threshold(scores, false_reject_rate),
    )
