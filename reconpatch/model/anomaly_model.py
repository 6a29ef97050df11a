"""The whole model: one module from uint8 pixels to score, map and verdict."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from reconpatch.calibration.calibration import Calibration
from reconpatch.model.feature_scorer import FeatureScorer
from reconpatch.model.patch_network import PatchNetwork
from reconpatch.model.region import Region
from reconpatch.model.score_fusion import fuse

OUTPUTS = ("score", "map", "rejected", "to_review")


class AnomalyModel(nn.Module):
    """One detector: normalisation, network, f, search in the bank, re-weighting, map, thresholds."""

    inside: Tensor | None

    def __init__(
        self,
        network: PatchNetwork,
        scorer: FeatureScorer,
        calibration: Calibration | None,
        region: Region | None = None,
    ) -> None:
        """Put the halves together.

        Args:
            network: from pixels to patch features.
            scorer: from patch features to scores and maps.
            calibration: whose thresholds judge; None: nothing is ever rejected.
            region: what counts, the scorer's own; None: all.
        """
        super().__init__()
        self.network, self.scorer = network, scorer
        inside = None if region is None else torch.from_numpy(region.patches(network.grid))
        self.register_buffer("inside", inside)
        self.thresholds = Thresholds(calibration)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(B, S, S, 3) uint8 to scores (B,), maps (B, S, S), and two (B,) bool: rejected, to be reviewed."""
        features = self.network(images)
        scores, maps = self.scorer(features if self.inside is None else features[:, self.inside])
        return scores, maps, *self.thresholds(scores)


class EnsembleModel(nn.Module):
    """The mean of the members' modified z-scores (paper, section 4)."""

    def __init__(
        self, members: Sequence[AnomalyModel], calibrations: Sequence[Calibration], calibration: Calibration
    ) -> None:
        """Put members together.

        Args:
            members: at least two.
            calibrations: of each, whose statistics make their scores comparable.
            calibration: of the mean.
        """
        super().__init__()
        self.members = nn.ModuleList(members)
        self._scores = [one.scores for one in calibrations]
        self._pixels = [one.pixels for one in calibrations]
        self.thresholds = Thresholds(calibration)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `AnomalyModel.forward`."""
        found = [member(images) for member in self.members]
        scores = fuse([one[0] for one in found], self._scores)
        maps = fuse([one[1] for one in found], self._pixels)
        return scores, maps, *self.thresholds(scores)


class Thresholds(nn.Module):
    """Thresholds on image scores."""

    def __init__(self, calibration: Calibration | None) -> None:
        super().__init__()
        self._threshold = self._review = math.inf
        if calibration is not None:
            self._threshold = float32_below(calibration.threshold.value)
            self._review = float32_below(calibration.review.value)

    def forward(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) scores to whether each is rejected, and whether it is not but should be reviewed."""
        rejected = scores > self._threshold
        return rejected, (scores > self._review) & ~rejected


def float32_below(value: float) -> float:
    """The largest float32 not above ``value``: a float32 score lies above either or neither."""
    nearest = np.float32(value)
    return float(nearest if float(nearest) <= value else np.nextafter(nearest, np.float32(-math.inf)))
