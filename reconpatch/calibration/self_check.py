"""Do the nominal images look like each other? One that no other explains may be a defect that slipped in.

A bank knows the images that it was made of and scores them near 0, whatever they show. So each is scored by
the bank without the vectors that its own group gave, as a new image would be.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reconpatch.calibration.normalisation import RobustStatistics
from reconpatch.coreset.bank_selection import modulated
from reconpatch.data.groups import join_groups
from reconpatch.features.patch_features import PatchFeatures
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.model.modulation import AnyModulation
from reconpatch.progress import track
from reconpatch.settings import Settings

_LOG = logging.getLogger(__name__)
_NAMED = 10
_NEAREST = 16  # neighbours among which a vector of another group is looked for first
_SAME = 1e-5  # of its length: a vector this near to a bank's is the one that the bank took


@dataclass(frozen=True)
class SelfCheck:
    """What the nominal images say of each other.

    Attributes:
        scores: (N,) float64, the image's largest patch distance to the vectors of other groups.
        z: (N,) float64, how many robust deviations above the median of all images that is.
    """

    scores: NDArray[np.float64]
    z: NDArray[np.float64]

    def table(self, paths: Sequence[str | Path], limit: float) -> pd.DataFrame:
        """A row an image, the most suspicious first: path, score, z, suspicious (z beyond ``limit``)."""
        rows = pd.DataFrame({"path": [str(path) for path in paths], "score": self.scores, "z": self.z})
        rows["suspicious"] = rows["z"] > limit
        return rows.sort_values(["z", "path"], ascending=[False, True], ignore_index=True).round(4)


def warn_of_suspects(
    checked: SelfCheck | None, paths: Sequence[str | Path], settings: Settings
) -> pd.DataFrame:
    """Log the images that a person should look at.

    Returns:
        `SelfCheck.table` by ``calibrate.suspicious_z``; empty where nobody could tell or asked.
    """
    limit = settings.calibrate.suspicious_z
    if checked is None or limit is None:
        return pd.DataFrame(columns=["path", "score", "z", "suspicious"])
    table = checked.table(paths, limit)
    found = table.loc[table["suspicious"], "path"].tolist()
    if found:
        more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        _LOG.warning(
            "%d of %d nominal images look unlike all others; is each a good part? %s%s "
            "(calibrate.suspicious_z: %g)",
            len(found), len(table), ", ".join(found[:_NAMED]), more, limit,
        )  # fmt: skip
    return table


def check_nominal(
    features: PatchFeatures, groups: Sequence[str], modulation: AnyModulation, bank: MemoryBank
) -> SelfCheck | None:
    """Score every nominal image of a fit by what the others left in its bank.

    It costs about as much as predicting the images from cached features.

    Args:
        features: of N nominal images, held-out ones too: these left nothing in the bank.
        groups: the group of each.
        modulation: f.
        bank: of the fit.

    Returns:
        None where fewer than two groups made the bank: nobody could tell.
    """
    joined = join_groups(groups, features.image_digests)
    nearest = np.empty((len(features), features.patches // max(1, len(features))), np.int64)
    distances = np.empty(nearest.shape, np.float32)
    # A bank may hold one vector twice, of which the search names one.
    same = np.unique(bank.vectors, axis=0, return_inverse=True)[1].ravel()
    members = np.split(np.argsort(same), np.cumsum(np.bincount(same))[:-1])
    owners: dict[int, set[str]] = {}
    blocks = track(modulated(features, modulation), "self-check", total=len(features))
    for i, queries in enumerate(blocks):
        found, indices = bank.search(queries, 1)
        nearest[i], distances[i] = indices[:, 0], found[:, 0]
        # Rounding differs with the shape of a product, on a GPU above all.
        given = distances[i] <= _SAME * np.linalg.norm(queries, axis=1)
        for vector in nearest[i, given]:
            owners.setdefault(int(same[vector]), set()).add(joined[i])
    own: dict[str, list[int]] = {}
    for vector, names in owners.items():
        if len(names) == 1:  # what two groups have in common, the other one explains
            own.setdefault(next(iter(names)), []).extend(members[vector].tolist())
    if len(own) < 2:
        return None
    scores = np.empty(len(features))
    for i, group in enumerate(joined):
        mine = np.asarray(own.get(group, ()), dtype=np.int64)
        alone = np.isin(nearest[i], mine)
        if alone.any():
            queries = next(modulated(features.subset([i]), modulation))[alone]
            distances[i, alone] = _distances_to_others(queries, bank, mine)
        scores[i] = distances[i].max()
    return SelfCheck(scores, RobustStatistics.from_scores(scores).modified_z(scores).astype(np.float64))


def _distances_to_others(
    queries: NDArray[np.float32], bank: MemoryBank, mine: NDArray[np.int64]
) -> NDArray[np.float32]:
    """(Q,) distances to the nearest bank vector that is not in ``mine``."""
    found, indices = bank.search(queries, min(_NEAREST, len(bank)))
    distances: NDArray[np.float32] = np.where(np.isin(indices, mine), np.inf, found).min(axis=1)
    # Seldom: the vectors of a coreset lie apart, and so do those of one group.
    unknown = np.isinf(distances)
    if unknown.any():
        others = MemoryBank(np.delete(bank.vectors, mine, axis=0))
        distances[unknown] = others.search(queries[unknown], 1)[0][:, 0]
    return distances
