"""One score from several detectors: the mean of their modified z-scores (paper, section 4)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reconpatch.calibration.normalisation import RobustStatistics
from reconpatch.errors import DataError


def fuse(
    members: Sequence[NDArray[np.floating]], statistics: Sequence[RobustStatistics]
) -> NDArray[np.float32]:
    """Mean over the members of their scores as modified z-scores.

    Distances in the feature spaces of different backbones have different units; in units of each
    member's own nominal median and spread they can be averaged.

    Args:
        members: per member an array of one and the same shape: image scores (N,) or maps (N, S, S).
        statistics: per member the statistics of nominal held-out values of that kind: image-score
            statistics for scores, pixel statistics for maps.

    Returns:
        float32, in the members' shape. 0 is a typical nominal value, and 1 one robust standard
        deviation above it.

    Raises:
        DataError: there are no members, not one statistics each, or arrays of different shapes.
    """
    shapes = {member.shape for member in members}
    if len(members) != len(statistics) or len(shapes) != 1:
        raise DataError(
            f"{len(members)} members of shapes {sorted(shapes)} and {len(statistics)} statistics; an "
            "ensemble needs one statistics for each member, and scores of the same images at the same size"
        )
    total = np.zeros(members[0].shape)
    for member, of_member in zip(members, statistics, strict=True):
        total += of_member.modified_z(member)
    return (total / len(members)).astype(np.float32)
