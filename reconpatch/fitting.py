"""The steps of a fit, one function each; `ReConPatch.fit` and the pipeline's stages call the same."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reconpatch.data.groups import hold_out_groups
from reconpatch.data.training import TrainingSet
from reconpatch.device import choose_device, limit_threads
from reconpatch.errors import DataError
from reconpatch.features.dataset import PatchFeatures
from reconpatch.inference import score_blocks
from reconpatch.memory.bank import MemoryBank
from reconpatch.memory.coreset import coreset_size
from reconpatch.memory.streaming import select_coreset
from reconpatch.modulation.head import Modulation
from reconpatch.modulation.training import TrainedModulation, train_modulation
from reconpatch.progress import track
from reconpatch.scoring.calibration import PIXEL_STRIDE, Calibration, calibrate_scores
from reconpatch.settings import Settings

_MIB = 1 << 20
# Patches that f trains on are held in memory: 1.8 million of width 152, or 175 thousand of width 1536.
_TRAINING_BYTES = 512 * _MIB


@dataclass(frozen=True)
class NominalSplit:
    """Which nominal training images fit the detector and which calibrate it.

    Attributes:
        fit: positions of the images that train f and fill the bank, ascending int64.
        holdout: positions of the held-out images, ascending int64; may be empty.
    """

    fit: np.ndarray
    holdout: np.ndarray


def split_nominal(groups: Sequence[str], settings: Settings) -> NominalSplit:
    """Hold out whole groups of the nominal training images for calibration.

    Args:
        groups: group of each nominal training image.
        settings: ``calibrate.holdout`` (0 holds nothing out) and ``seed``.

    Raises:
        DataError: there is no nominal training image.
    """
    if not len(groups):
        raise DataError("no nominal training image was given; at least one is needed to fit a detector")
    if settings.calibrate.holdout == 0:
        held = np.zeros(len(groups), dtype=bool)
    else:
        held = hold_out_groups(groups, settings.calibrate.holdout, settings.seed)
    return NominalSplit(np.flatnonzero(~held), np.flatnonzero(held))


def training_set(features: PatchFeatures, split: NominalSplit) -> TrainingSet:
    """What the detector keeps of its training images."""
    fit, holdout = (
        tuple(sorted(features.image_digests[i] for i in part)) for part in (split.fit, split.holdout)
    )
    return TrainingSet(fit, holdout)


def fit_modulation(features: PatchFeatures, settings: Settings) -> TrainedModulation | None:
    """Train f on the patches of the fit images; None when ``modulation.enabled`` is false.

    Of more patches than 512 MiB hold, a uniform random sample of that size stands for all.
    """
    if not settings.modulation.enabled:
        return None
    limit_threads(settings.threads)
    device = choose_device(settings.device)
    patches = sample_patches(features, _TRAINING_BYTES, settings.seed)
    return train_modulation(patches, settings.modulation, seed=settings.seed, device=device)


def sample_patches(features: PatchFeatures, max_bytes: int, seed: int) -> np.ndarray:
    """All patches in order, or as many as fit, drawn uniformly without replacement.

    Args:
        features: of N images.
        max_bytes: most bytes of the result.
        seed: of the draw.

    Returns:
        (n, D) float16, n at least 1.
    """
    fitting = max(1, max_bytes // (2 * features.dim))
    if features.patches <= fitting:
        return features.as_array()
    rows = np.random.default_rng(seed).choice(features.patches, fitting, replace=False, shuffle=False)
    return features.take(np.sort(rows))


def fit_bank(features: PatchFeatures, modulation: Modulation | None, settings: Settings) -> MemoryBank:
    """Select the coreset of the fit images' patches in f's space."""
    size = coreset_size(features.patches, settings.coreset.ratio, settings.coreset.max_bank)
    return select_bank(modulated(features, modulation), features.patches, size, settings)


def modulated(features: PatchFeatures, modulation: Modulation | None) -> Iterator[np.ndarray]:
    """The (P, dim) float32 patches of one image after another in f's space, or as they are without f."""
    for block in features.blocks():
        yield modulation.apply(block) if modulation is not None else block.astype(np.float32)


def select_bank(blocks: Iterable[np.ndarray], total: int, size: int, settings: Settings) -> MemoryBank:
    """The bank of ``size`` of the ``total`` (n_i, dim) float32 vectors in ``blocks``, within the budget."""
    limit_threads(settings.threads)
    budget = settings.coreset.memory_budget_mib
    vectors = select_coreset(
        blocks,
        total,
        size,
        seed=settings.seed,
        memory_budget=None if budget is None else budget * _MIB,
        device=choose_device(settings.device),
    )
    return MemoryBank(vectors)


def calibrate(
    features: PatchFeatures, modulation: Modulation | None, bank: MemoryBank, settings: Settings
) -> Calibration | None:
    """Statistics and threshold from the held-out images; None when there is none."""
    if not len(features):
        return None
    limit_threads(settings.threads)
    scores, pixels = [], []
    batches = score_blocks(features.blocks(), features.grid, modulation, bank, settings)
    for batch in track(batches, "calibrate", total=len(features)):
        scores.append(batch.scores)
        pixels.append(batch.maps[:, ::PIXEL_STRIDE, ::PIXEL_STRIDE].ravel())
    return calibrate_scores(
        np.concatenate(scores),
        np.concatenate(pixels),
        false_reject_rate=settings.calibrate.false_reject_rate,
    )
