"""A threshold from nominal scores alone, with the false-reject rate that it promises."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import beta

from reconpatch.errors import DataError, ModelError, SettingsError

_DEFAULT_RATE = 0.01
_COVERAGE = 0.95


@dataclass(frozen=True)
class Threshold:
    """Where an image becomes anomalous.

    Attributes:
        value: an image is anomalous when its score is above this.
        false_reject_rate: the rate alpha that the threshold was asked for: a nominal image that is
            exchangeable with the held-out ones is rejected with at most this probability.
        n: number of held-out nominal scores behind it.
        interval: the 95 % range, over draws of the held-out images, of the rate at which this
            threshold truly rejects nominal images.
    """

    value: float
    false_reject_rate: float
    n: int
    interval: tuple[float, float]

    def is_anomalous(self, scores: ArrayLike) -> Any:
        """``scores > value``, elementwise: a bool for a number, a bool array for an array."""
        above = np.asarray(scores) > self.value
        return bool(above) if above.ndim == 0 else above

    def to_dict(self) -> dict[str, Any]:
        """JSON-able values; :meth:`from_dict` reads them."""
        return {**asdict(self), "interval": list(self.interval)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Threshold":
        """The threshold that :meth:`to_dict` wrote.

        Raises:
            ModelError: a value is missing or of another type.
        """
        try:
            low, high = values["interval"]
            return cls(
                value=float(values["value"]),
                false_reject_rate=float(values["false_reject_rate"]),
                n=int(values["n"]),
                interval=(float(low), float(high)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"threshold: {error!r} in {values}; calibrate the detector again") from None


def conformal_threshold(nominal_scores: ArrayLike, false_reject_rate: float | None = None) -> Threshold:
    """Split-conformal threshold: the ceil((n + 1)(1 - alpha))-th smallest of n held-out nominal scores.

    With scores that are exchangeable with those to come, and whatever their distribution, a nominal
    image is rejected with probability at most alpha (Vovk et al., Algorithmic Learning in a Random
    World, 2005; Lei et al., JASA 2018). Given the held-out scores, the true rate follows a
    Beta(n + 1 - k, k) distribution, k being the rank (Vovk, ACML 2012); ties only lower it.

    Args:
        nominal_scores: (n,) image scores of nominal images that the detector has not seen.
        false_reject_rate: alpha in (0, 1); None: the larger of 1 % and 1/(n + 1), the smallest that
            n scores can promise.

    Raises:
        DataError: there are no scores, or one is not finite.
        SettingsError: the rate is out of (0, 1), or so small that n scores cannot promise it; the
            message says how many would do.
    """
    scores = np.sort(np.asarray(nominal_scores, dtype=np.float64).ravel())
    n = len(scores)
    if n == 0 or not np.isfinite(scores).all():
        raise DataError("nominal scores are absent or not finite; hold out nominal images and score them")
    alpha = max(_DEFAULT_RATE, 1 / (n + 1)) if false_reject_rate is None else float(false_reject_rate)
    if not 0 < alpha < 1:
        raise SettingsError(f"calibrate.false_reject_rate is {alpha}: must be above 0 and below 1")
    rank = max(1, math.ceil((n + 1) * (1 - alpha) - 1e-9))
    if rank > n:
        needed = math.ceil(1 / alpha - 1 - 1e-9)
        # Rounded up: taken literally, the advice must be accepted.
        possible = math.ceil(1e6 / (n + 1)) / 1e6
        raise SettingsError(
            f"calibrate.false_reject_rate is {alpha}: {n} held-out nominal images cannot promise that; "
            f"hold out {needed} or more, or ask for {possible:g} or more"
        )
    tail = (1 - _COVERAGE) / 2
    low, high = beta.ppf([tail, 1 - tail], n + 1 - rank, rank)
    return Threshold(float(scores[rank - 1]), alpha, n, (float(low), float(high)))
