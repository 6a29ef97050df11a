"""One score from several detectors: the mean of their modified z-scores (paper, section 4)."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from reconpatch.calibration.normalisation import RobustStatistics
from reconpatch.errors import DataError

Scores = TypeVar("Scores", NDArray[np.floating], Tensor)


def fuse(members: Sequence[Scores], statistics: Sequence[RobustStatistics]) -> Scores:
    """Mean over the members of their scores as modified z-scores.

    Distances in the feature spaces of different backbones have different units; in units of each
    member's own nominal median and spread they can be averaged.

    Args:
        members: per member a float32 array or tensor of one and the same shape: image scores (N,) or maps
            (N, S, S).
        statistics: per member the statistics of nominal held-out values of that kind: image-score
            statistics for scores, pixel statistics for maps.

    Returns:
        float32, in the members' shape. 0 is a typical nominal value, and 1 one robust standard
        deviation above it.

    Raises:
        DataError: there are no members, not one statistics each, or arrays of different shapes.
    """
    # Tensors are one model's own; a graph for another runtime takes any number of images and compares none.
    shapes = {member.shape if isinstance(member, np.ndarray) else () for member in members}
    if len(members) != len(statistics) or len(shapes) != 1:
        raise DataError(
            f"{len(members)} members of shapes {sorted(shapes)} and {len(statistics)} statistics; an "
            "ensemble needs one statistics for each member, and scores of the same images at the same size"
        )
    total = (members[0] - statistics[0].median) / statistics[0].scale
    for member, one in zip(members[1:], statistics[1:], strict=True):
        total = total + (member - one.median) / one.scale
    return total / len(members)
