"""Nominal scores in groups, and what they say of a new score whatever their distribution.

Libraries weighed: MAPIE and crepes calibrate predictors on independent examples; their groups are conditions
with a threshold each, not clusters of dependent images that count once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import FailFast, Field, FiniteFloat

from reconpatch.errors import DataError

_ROUNDING = 1e-9
_Weight = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


@dataclass(frozen=True)
class NominalScores:
    """Scores of nominal images that the detector has not seen; every group counts as one observation.

    Images of one group are not independent, so each has the weight 1 / (images of its group), and an unseen
    group stands at infinity: hierarchical conformal prediction (Lee, Barber and Willett, "Distribution-free
    inference with hierarchical data", 2023). With a group an image it is split conformal prediction.

    Attributes:
        values: (m,) scores, ascending.
        weights: (m,) of each, in (0, 1]; they add up to the number of groups.
    """

    values: Annotated[tuple[FiniteFloat, ...], Field(min_length=1), FailFast()]
    weights: Annotated[tuple[_Weight, ...], FailFast()]

    def __post_init__(self) -> None:
        """Refuse what a damaged file may hold.

        Raises:
            ValueError: the values are not in order, or have not a weight each.
        """
        if len(self.values) != len(self.weights) or (np.diff(self.values) < 0).any():
            raise ValueError("nominal scores must ascend and have a weight each")

    @classmethod
    def from_scores(cls, scores: ArrayLike, groups: Sequence[str] | None = None) -> "NominalScores":
        """Weigh scores by their groups.

        Args:
            scores: (m,) finite.
            groups: (m,) the group of each; None: each is its own.

        Raises:
            DataError: there are no scores, one is not finite, or there is not one group each.
        """
        values = np.asarray(scores, dtype=np.float64).ravel()
        if not values.size or not np.isfinite(values).all():
            raise DataError("nominal scores are absent or not finite; hold out nominal images and score them")
        if groups is None:
            weights = np.ones(values.size)
        else:
            if len(groups) != values.size:
                raise DataError(
                    f"{values.size} nominal scores and {len(groups)} groups: there must be one each"
                )
            _, member, sizes = np.unique(np.asarray(groups, str), return_inverse=True, return_counts=True)
            weights = 1 / sizes[member]
        order = np.lexsort((weights, values))
        return cls(tuple(values[order].tolist()), tuple(weights[order].tolist()))

    @property
    def groups(self) -> int:
        """n, the number of groups."""
        return round(sum(self.weights))

    @cached_property
    def _arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        return np.array(self.values), np.concatenate([[0.0], np.cumsum(self.weights)])

    def quantile(self, rate: float) -> float | None:
        """The smallest score that an image of a new group exceeds with probability at most ``rate``.

        Returns:
            None where n groups cannot promise that: ``rate`` is below 1 / (n + 1).
        """
        values, cumulated = self._arrays
        needed = (self.groups + 1) * (1 - rate) - _ROUNDING
        place = int(np.searchsorted(cumulated[1:], needed))
        return float(values[place]) if place < values.size else None

    def false_reject_probability(self, scores: ArrayLike) -> NDArray[np.float64]:
        """How probable a score as large or larger is for an image of a new group (conformal p-value).

        Args:
            scores: of any shape.

        Returns:
            The same shape, in [1 / (n + 1), 1]: n groups cannot tell less likely scores apart. It is at most
            alpha exactly where the score lies above `quantile` of alpha.

        Example:
            One of three nominal scores is at least 2.5, and the new one counts too: (1 + 1) / (3 + 1).

            >>> NominalScores.from_scores([1, 2, 3]).false_reject_probability([2.5, 4.0]).tolist()
            [0.5, 0.25]
        """
        values, cumulated = self._arrays
        below = cumulated[np.searchsorted(values, np.asarray(scores, dtype=np.float64), side="left")]
        return np.asarray((self.groups - below + 1) / (self.groups + 1))
