"""A threshold from nominal scores alone, with the false-reject rate that it promises."""

import math
from dataclasses import dataclass

from numpy.typing import ArrayLike
from pydantic import FiniteFloat
from scipy.stats import beta

from reconpatch.calibration.conformal import NominalScores
from reconpatch.errors import SettingsError
from reconpatch.storage.bounded_types import CountFromOne, Rate

DEFAULT_RATE, DEFAULT_REVIEW_RATE = 0.01, 0.05
_COVERAGE = 0.95
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Threshold:
    """Where an image becomes anomalous.

    Attributes:
        value: an image is anomalous when its score is above this.
        false_reject_rate: the rate alpha that the threshold was asked for: a nominal image that is
            exchangeable with the held-out ones is rejected with at most this probability.
        n: number of groups of held-out nominal images behind it.
        interval: the 95 % range, over draws of the held-out images, of the rate at which this
            threshold truly rejects nominal images.
    """

    value: FiniteFloat
    false_reject_rate: Rate
    n: CountFromOne
    interval: tuple[Rate, Rate]


def conformal_threshold(
    nominal_scores: ArrayLike | NominalScores, false_reject_rate: float | None = None
) -> Threshold:
    """Split-conformal threshold: the ceil((n + 1)(1 - alpha))-th smallest of n held-out nominal scores.

    With scores that are exchangeable with those to come, and whatever their distribution, a nominal
    image is rejected with probability at most alpha (Vovk et al., Algorithmic Learning in a Random
    World, 2005; Lei et al., JASA 2018). Given the held-out scores, the true rate follows a
    Beta(n + 1 - k, k) distribution, k being the rank (Vovk, ACML 2012); ties only lower it. Of groups of
    several images the promise holds for an image of a new group (`NominalScores`), and the Beta law, which
    counts each group once, is rather too wide.

    Args:
        nominal_scores: image scores of nominal images that the detector has not seen: (n,), each its own
            group, or in groups.
        false_reject_rate: alpha in (0, 1); None: the larger of 1 % and 1/(n + 1), the smallest that
            n groups can promise.

    Raises:
        DataError: there are no scores, or one is not finite.
        SettingsError: the rate is out of (0, 1), or so small that n groups cannot promise it; the
            message says how many would do.

    Example:
        Nine scores and a new one come in any order equally likely, so the new one exceeds the eighth of the
        nine, ceil(10 * 0.8), with probability at most 0.2:

        >>> conformal_threshold([1, 2, 3, 4, 5, 6, 7, 8, 9], 0.2).value
        8.0
    """
    scores = nominal_scores
    if not isinstance(scores, NominalScores):
        scores = NominalScores.from_scores(scores)
    n = scores.groups
    alpha = default_rate(n) if false_reject_rate is None else float(false_reject_rate)
    check_rate(n, alpha)
    value = scores.quantile(alpha)
    assert value is not None  # noqa: S101 (the rate was checked)
    rank = max(1, math.ceil((n + 1) * (1 - alpha) - _ROUNDING))
    tail = (1 - _COVERAGE) / 2
    low, high = beta.ppf([tail, 1 - tail], n + 1 - rank, rank)
    return Threshold(value, alpha, n, (float(low), float(high)))


def default_rate(groups: int) -> float:
    """The larger of 1 % and the smallest rate that so many held-out groups can promise."""
    return max(DEFAULT_RATE, 1 / (groups + 1))


def default_review_rate(groups: int, rate: float) -> float:
    """The largest of 5 %, ``rate`` and twice the smallest rate that the groups can promise, up to 1/2."""
    return min(max(DEFAULT_REVIEW_RATE, 2 / (groups + 1), rate), 0.5)


def groups_needed(rate: float) -> int:
    """How many held-out groups the smallest rate that can be promised does not exceed ``rate`` with."""
    return math.ceil(1 / rate - 1 - _ROUNDING)


def check_rate(groups: int, rate: float, name: str = "calibrate.false_reject_rate") -> None:
    """Refuse a false-reject rate that so many held-out groups cannot promise.

    Raises:
        SettingsError: as `conformal_threshold`.
    """
    if not 0 < rate < 1:
        raise SettingsError(f"{name} is {rate}: must be above 0 and below 1")
    if rate * (groups + 1) < 1 - _ROUNDING:
        needed = groups_needed(rate)
        # Rounded up: taken literally, the advice must be accepted.
        possible = math.ceil(1e6 / (groups + 1)) / 1e6
        raise SettingsError(
            f"{name} is {rate}: {groups} held-out groups of nominal images cannot promise that (an "
            f"image without a named group is one); hold out {needed} or more, or ask for {possible:g} or more"
        )
