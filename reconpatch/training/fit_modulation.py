"""Training of f on the nominal images of a fit."""

import numpy as np

from reconpatch.device import choose_device, limit_threads
from reconpatch.features.patch_features import PatchFeatures
from reconpatch.model.modulation import Identity
from reconpatch.settings import Settings
from reconpatch.training.training_loop import TrainedModulation, train_modulation

# Patches that f trains on are held in memory: 1.8 million of width 152, or 175 thousand of width 1536.
TRAINING_BYTES = 512 << 20


def fit_modulation(features: PatchFeatures, settings: Settings) -> TrainedModulation:
    """Train f on the patches of the fit images; the identity when ``modulation.enabled`` is false.

    Of more patches than 512 MiB hold, a uniform random sample of that size stands for all.
    """
    if not settings.modulation.enabled:
        return TrainedModulation(Identity(features.dim), ())
    limit_threads(settings.threads)
    device = choose_device(settings.device)
    patches = sample_patches(features, TRAINING_BYTES, settings.seed)
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
