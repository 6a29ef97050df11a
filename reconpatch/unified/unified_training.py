"""Training of one f on the nominal patches of several categories, each with the same say."""

from collections.abc import Mapping, Sequence

import numpy as np

from reconpatch.data.groups import hold_out_groups, join_groups
from reconpatch.device import choose_device, limit_threads
from reconpatch.features.patch_features import PatchFeatures
from reconpatch.fit import NominalImages
from reconpatch.model.modulation import Identity
from reconpatch.settings import Settings
from reconpatch.training.fit_modulation import TRAINING_BYTES, sample_patches
from reconpatch.training.training_loop import TrainedModulation, train_modulation

_VALIDATION_BYTES = 32 << 20


def train_on_all(fit: Mapping[str, NominalImages], settings: Settings) -> TrainedModulation:
    """Train f; the identity when ``modulation.enabled`` is false.

    Every batch, of training and of validation, has as many patches of each category. Of each category whole
    groups are set aside to watch the loss on and to stop early by; they train nothing, and may fill a bank
    all the same. Of more patches than 512 MiB hold, uniform random samples stand, as even over the categories
    as their sizes allow.

    Args:
        fit: by category, the images that are not held out for its threshold.
        settings: sections ``modulation`` and ``unified``; ``seed``, ``device``, ``threads``.
    """
    if not settings.modulation.enabled:
        return TrainedModulation(Identity(next(iter(fit.values())).features.dim), ())
    limit_threads(settings.threads)
    parts = [split_validation(images, settings) for images in fit.values()]
    rows, counts = gather([train for train, _ in parts], TRAINING_BYTES, settings.seed)
    watched = [validation for _, validation in parts if len(validation)]
    validation, validation_counts = (
        gather(watched, _VALIDATION_BYTES, settings.seed) if watched else (None, None)
    )
    return train_modulation(
        rows,
        settings.modulation,
        seed=settings.seed,
        device=choose_device(settings.device),
        validation=validation,
        patience=settings.unified.patience if watched else None,
        parts=counts,
        validation_parts=validation_counts,
    )


def split_validation(images: NominalImages, settings: Settings) -> tuple[PatchFeatures, PatchFeatures]:
    """Part a category's images into those that train f and those that watch it, whole groups."""
    joined = join_groups(images.groups, images.features.image_digests)
    held = hold_out_groups(joined, settings.unified.validation, settings.seed)
    return images.features.subset(np.flatnonzero(~held)), images.features.subset(np.flatnonzero(held))


def gather(parts: Sequence[PatchFeatures], max_bytes: int, seed: int) -> tuple[np.ndarray, list[int]]:
    """The patches of all parts one after another, or as many as fit, with the number of each.

    Returns:
        (n, D) float16 and the rows of each part.
    """
    width = 2 * parts[0].dim
    counts = share_out([part.patches for part in parts], max(len(parts), max_bytes // width))
    rows = np.empty((sum(counts), parts[0].dim), np.float16)
    for part, count, end in zip(parts, counts, np.cumsum(counts), strict=True):
        rows[end - count : end] = sample_patches(part, count * width, seed)
    return rows, counts


def share_out(sizes: Sequence[int], most: int) -> list[int]:
    """Share ``most`` rows evenly among parts; what a small one leaves goes to the larger ones.

    Returns:
        Rows of each part, never more than it has.
    """
    shares, left = [0] * len(sizes), most
    for done, i in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        shares[i] = min(sizes[i], left // (len(sizes) - done))
        left -= shares[i]
    return shares
