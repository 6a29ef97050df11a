"""Scores on a common scale: modified z-scores by median and MAD."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import FiniteFloat

from reconpatch.errors import DataError
from reconpatch.storage.bounded_types import CountFromOne, NonNegative

NORMAL_CONSISTENCY = 1.4826  # MAD times this is the standard deviation of a normal distribution


@dataclass(frozen=True)
class RobustStatistics:
    """Median and spread of nominal scores.

    Attributes:
        median: median of the scores.
        mad: median absolute deviation from the median, at least 0.
        mean_deviation: mean absolute deviation from the median, at least 0; the spread when mad is 0.
        n: number of scores.
    """

    median: FiniteFloat
    mad: NonNegative
    mean_deviation: NonNegative
    n: CountFromOne

    @classmethod
    def from_scores(cls, scores: ArrayLike) -> "RobustStatistics":
        """Statistics of scores of any shape, computed in float64.

        Raises:
            DataError: there are no scores, or one is not finite.
        """
        values = np.asarray(scores, dtype=np.float64).ravel()
        if not len(values) or not np.isfinite(values).all():
            raise DataError("nominal scores are absent or not finite; hold out nominal images and score them")
        median = float(np.median(values))
        deviations = np.abs(values - median)
        return cls(median, float(np.median(deviations)), float(deviations.mean()), len(values))

    @property
    def scale(self) -> float:
        """The spread in units of a normal distribution's standard deviation, above 0.

        1.4826 * MAD. Where more than half the scores are equal the MAD is 0, and sqrt(pi/2) times the
        mean absolute deviation takes its place (Iglewicz and Hoaglin, How to Detect and Handle
        Outliers, 1993); where all are equal there is no spread, and 1 leaves differences as they are.
        """
        return NORMAL_CONSISTENCY * self.mad or float(np.sqrt(np.pi / 2)) * self.mean_deviation or 1.0

    def modified_z(self, scores: ArrayLike) -> NDArray[np.floating]:
        """(s - median) / scale in the shape of ``scores``; float32 stays float32, else float64."""
        values = np.asarray(scores)
        if values.dtype != np.float32:
            values = values.astype(np.float64)
        z: NDArray[np.floating] = (values - self.median) / self.scale
        return z
