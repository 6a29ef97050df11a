"""Do the nominal images look like each other? One that no other explains may be a defect that slipped in.

A bank knows the images that it was made of and scores them near 0, whatever they show. So each is scored by
the bank without the vectors that its own group gave, as a new image would be.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from reconpatch.data.groups import join_groups
from reconpatch.features.dataset import PatchFeatures
from reconpatch.fitting import modulated
from reconpatch.memory.bank import MemoryBank
from reconpatch.modulation.head import Modulation
from reconpatch.progress import track
from reconpatch.scoring.normalisation import RobustStatistics

SUSPICIOUS_Z = 6.0  # docs/benchmarks.md, "Contamination": what it catches and how often it is wrong


@dataclass(frozen=True)
class SelfCheck:
    """What the nominal images say of each other.

    Attributes:
        scores: (N,) float64, the image's largest patch distance to the vectors of other groups.
        z: (N,) float64, how many robust deviations above the median of all images that is.
    """

    scores: NDArray[np.float64]
    z: NDArray[np.float64]

    def suspicious(self, limit: float = SUSPICIOUS_Z) -> NDArray[np.int64]:
        """Positions of the images beyond ``limit``, the most suspicious first."""
        order = np.argsort(-self.z, kind="stable")
        return order[self.z[order] > limit]


def check_nominal(
    features: PatchFeatures, groups: Sequence[str], modulation: Modulation | None, bank: MemoryBank
) -> SelfCheck | None:
    """Score every nominal image of a fit by what the others left in its bank.

    It costs about as much as predicting the images from cached features.

    Args:
        features: of N nominal images, held-out ones too: these left nothing in the bank.
        groups: the group of each.
        modulation: f, or None for plain PatchCore.
        bank: of the fit.

    Returns:
        None where fewer than two groups made the bank: nobody could tell.
    """
    joined = join_groups(groups, features.image_digests)
    nearest = np.empty((len(features), features.patches // max(1, len(features))), np.int64)
    distances = np.empty(nearest.shape, np.float32)
    owners: dict[int, set[str]] = {}
    blocks = track(modulated(features, modulation), "self-check", total=len(features))
    for i, queries in enumerate(blocks):
        found, indices = bank.search(queries, 1)
        nearest[i], distances[i] = indices[:, 0], found[:, 0]
        for vector in nearest[i, distances[i] == 0]:
            owners.setdefault(int(vector), set()).add(joined[i])
    own: dict[str, list[int]] = {}
    for vector, names in owners.items():
        if len(names) == 1:  # what two groups have in common, the other one explains
            own.setdefault(next(iter(names)), []).append(vector)
    if len(own) < 2:
        return None
    scores = np.empty(len(features))
    for i, group in enumerate(joined):
        mine = np.asarray(own.get(group, ()), dtype=np.int64)
        alone = np.isin(nearest[i], mine)
        if alone.any():
            others = np.delete(bank.vectors, mine, axis=0)
            queries = next(modulated(features.subset([i]), modulation))[alone]
            distances[i, alone] = cdist(queries, others).min(axis=1)
        scores[i] = distances[i].max()
    return SelfCheck(scores, RobustStatistics.from_scores(scores).modified_z(scores).astype(np.float64))
