"""What held-out nominal images say about a detector's scores and maps."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import ConfigDict, Field

from reconpatch.calibration.conformal import NominalScores
from reconpatch.calibration.normalisation import RobustStatistics
from reconpatch.calibration.threshold import Threshold, conformal_threshold, default_review_rate

Band = Literal["accept", "review", "reject"]
Method = Literal["holdout", "crossfit"]


@dataclass(frozen=True)
class Calibration:
    """Statistics of nominal images that neither trained f nor were coreset candidates.

    Attributes:
        scores: median and MAD of image scores.
        pixels: median and MAD of anomaly-map pixels.
        threshold: image-score threshold at a chosen false-reject rate; above it an image is rejected.
        review: the same at a higher rate; between the two a person should look.
        pixel_threshold: of map pixels: at most the same share of nominal images has any pixel above it.
        nominal: the image scores themselves, for false-reject probabilities.
        method: ``holdout``: the promises are exact. ``crossfit``: the scores come from detectors fitted on
            parts of the images and stand for those of the detector that ships; the promises are approximate.
        carried_over: whether an update has changed the bank since, without the images to calibrate on.
        held_out: the images behind it, as `held_out_table`; None where there are none that the detector that
            ships has scored. A file of its own on disk.
    """

    __pydantic_config__ = ConfigDict(arbitrary_types_allowed=True)  # for `held_out`

    scores: RobustStatistics
    pixels: RobustStatistics
    threshold: Threshold
    review: Threshold
    pixel_threshold: Threshold
    nominal: NominalScores
    method: Method = "holdout"
    carried_over: bool = False
    held_out: Annotated[pd.DataFrame | None, Field(exclude=True)] = field(
        default=None, compare=False, repr=False
    )

    def band(self, score: float) -> Band:
        """``reject`` above `threshold`, ``review`` above `review`, else ``accept``."""
        if score > self.threshold.value:
            return "reject"
        return "review" if score > self.review.value else "accept"


def calibrate_scores(
    scores: np.ndarray,
    pixels: np.ndarray,
    peaks: np.ndarray,
    *,
    groups: Sequence[str] | None = None,
    false_reject_rate: float | None = None,
    review_rate: float | None = None,
    method: Method = "holdout",
) -> Calibration:
    """Statistics and thresholds of one detector.

    Args:
        scores: (m,) image scores of held-out nominal images, by the detector that ships.
        pixels: (k,) pixels of their anomaly maps.
        peaks: (m,) the largest pixel of each map.
        groups: (m,) the group of each image; None: each is its own.
        false_reject_rate: share of nominal images that may be rejected, in (0, 1); None takes the
            larger of 1 % and 1/(n+1), n being the number of groups.
        review_rate: share that may be rejected or sent to review, at least the former; None takes the
            largest of 5 %, 2/(n+1) and the former.
        method: what the scores come from.

    Raises:
        DataError: values are absent or not finite.
        SettingsError: n groups cannot promise the rate.
    """
    nominal = NominalScores.from_scores(scores, groups)
    threshold = conformal_threshold(nominal, false_reject_rate)
    rate = threshold.false_reject_rate
    if review_rate is None:
        review_rate = default_review_rate(nominal.groups, rate)
    return Calibration(
        RobustStatistics.from_scores(scores),
        RobustStatistics.from_scores(pixels),
        threshold,
        conformal_threshold(nominal, max(review_rate, rate)),
        conformal_threshold(NominalScores.from_scores(peaks, groups), rate),
        nominal,
        method,
    )
