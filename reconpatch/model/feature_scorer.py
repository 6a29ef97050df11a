"""The second half of the model: from patch features to image score and anomaly map."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reconpatch.errors import DataError
from reconpatch.model.anomaly_map import AnomalyMap
from reconpatch.model.image_embedding import summarise_patches
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.model.modulation import AnyModulation
from reconpatch.model.patch_scores import PatchScores
from reconpatch.model.region import Region
from reconpatch.settings import Settings

_PIXEL_STRIDE, _PIXELS_ACROSS = 4, 56


@dataclass(frozen=True)
class ScoredBatch:
    """Scores of B images.

    Attributes:
        scores: (B,) float32 image scores, larger is more anomalous.
        maps: (B, S, S) float32 anomaly maps in the units of the distances.
        embeddings: (B, E) float16, as `summarise_patches`.
    """

    scores: NDArray[np.float32]
    maps: NDArray[np.float32]
    embeddings: NDArray[np.float16]


class FeatureScorer(nn.Module):
    """f, the search in the memory bank, eqs. 9 and 10 of the paper, and the anomaly map.

    It is used alone where patch features come from the cache: in a fit's calibration, in an evaluation.
    """

    def __init__(
        self,
        modulation: AnyModulation,
        bank: MemoryBank,
        settings: Settings,
        grid: tuple[int, int],
        region: Region | None = None,
    ) -> None:
        """Put the parts together; they stay whose they are.

        Args:
            modulation: f; the identity for plain PatchCore.
            bank: (M, dim) nominal vectors in f's space.
            settings: section ``scoring``, and ``features.image_size``.
            grid: (h, w) of the patches.
            region: what counts; elsewhere maps are 0, which is as nominal as can be.
        """
        super().__init__()
        device = bank.index.vectors.device
        self.modulation = modulation.to(device)
        self.patch_scores = PatchScores(bank, settings.scoring)
        scoring, size = settings.scoring, settings.features.image_size
        self.anomaly_map = AnomalyMap(grid, size, scoring.blur_sigma, region).to(device)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Score patch features.

        Args:
            features: (B, P, D) float, P = h * w row by row, or those in the region.

        Returns:
            Image scores (B,) and anomaly maps (B, S, S), float32.
        """
        scores, largest = self.patch_scores(self.modulation(features.float()))
        return largest, self.anomaly_map(scores)

    @torch.inference_mode()
    def score(self, features: NDArray[np.floating]) -> ScoredBatch:
        """`forward` for arrays, on the device of the bank.

        Raises:
            DataError: the features hold NaN or infinities.
        """
        wide = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))
        scores, maps = self(wide.to(self.anomaly_map.rows.device))
        found = scores.cpu().numpy()
        if not np.isfinite(found).all():
            raise DataError("patch features hold NaN or infinite values; every value must be finite")
        return ScoredBatch(found, maps.cpu().numpy(), summarise_patches(features))

    def score_blocks(self, blocks: Iterable[NDArray[np.floating]]) -> Iterator[ScoredBatch]:
        """Score one image's (P, D) block after another; memory stays that of one image."""
        for block in blocks:
            yield self.score(block[None])


def sample_pixels(maps: NDArray[np.float32], region: Region | None) -> NDArray[np.float32]:
    """Pixels of (B, S, S) maps for statistics, those inside the region: flat, about 3,000 a map.

    Neighbouring pixels say the same thing after the Gaussian, and a thousand held-out maps stay below 13 MB.
    """
    stride = max(_PIXEL_STRIDE, maps.shape[1] // _PIXELS_ACROSS)
    if region is None:
        return maps[:, ::stride, ::stride].ravel()
    return maps.reshape(len(maps), -1)[:, np.flatnonzero(region.pixels)[:: stride**2]].ravel()
