"""From patch features to scores and anomaly maps: the same steps for calibration and prediction."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from reconpatch.model.anomaly_map import anomaly_maps, region_maps
from reconpatch.model.image_embedding import summarise_patches
from reconpatch.model.memory_bank import MemoryBank
from reconpatch.model.modulation import Modulation
from reconpatch.model.patch_scores import score_patches
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

    scores: np.ndarray
    maps: np.ndarray
    embeddings: np.ndarray


def score_features(
    features: np.ndarray,
    grid: tuple[int, int],
    modulation: Modulation | None,
    bank: MemoryBank,
    settings: Settings,
    region: Region | None = None,
) -> ScoredBatch:
    """Score the patch features of a batch against the bank (paper, eqs. 9 and 10).

    Args:
        features: (B, P, D) float16 or float32 patch features, P = h * w, or those in the region.
        grid: (h, w) of the patches.
        modulation: f, or None for plain PatchCore.
        bank: (M, dim) nominal vectors in f's space.
        settings: sections ``scoring`` and ``features.image_size``.
        region: what counts; elsewhere maps are 0, which is as nominal as can be.
    """
    images, patches, width = features.shape
    flat = features.reshape(-1, width)
    queries = modulation.apply(flat) if modulation is not None else flat.astype(np.float32)
    patch_scores, scores = score_patches(bank, queries.reshape(images, patches, -1), settings.scoring)
    size, sigma = settings.features.image_size, settings.scoring.blur_sigma
    if region is None:
        maps = anomaly_maps(patch_scores.reshape(images, *grid), size, sigma)
        return ScoredBatch(scores, maps, summarise_patches(features))
    everywhere = np.zeros((images, grid[0] * grid[1]), np.float32)
    everywhere[:, region.patches(grid)] = patch_scores
    maps = region_maps(everywhere.reshape(images, *grid), region.cells(grid), region.pixels, sigma)
    return ScoredBatch(scores, maps, summarise_patches(features))


def score_blocks(
    blocks: Iterable[np.ndarray],
    grid: tuple[int, int],
    modulation: Modulation | None,
    bank: MemoryBank,
    settings: Settings,
    region: Region | None = None,
) -> Iterator[ScoredBatch]:
    """Score one image's (P, D) block after another; memory stays that of one image."""
    for block in blocks:
        yield score_features(block[None], grid, modulation, bank, settings, region)


def sample_pixels(maps: np.ndarray, region: Region | None) -> np.ndarray:
    """Pixels of (B, S, S) maps for statistics, those inside the region: flat, about 3,000 a map.

    Neighbouring pixels say the same thing after the Gaussian, and a thousand held-out maps stay below 13 MB.
    """
    stride = max(_PIXEL_STRIDE, maps.shape[1] // _PIXELS_ACROSS)
    if region is None:
        return maps[:, ::stride, ::stride].ravel()
    return maps.reshape(len(maps), -1)[:, np.flatnonzero(region.pixels)[:: stride**2]].ravel()
