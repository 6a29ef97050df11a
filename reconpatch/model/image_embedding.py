"""An image's patch features in a few numbers, small enough to be logged with every prediction."""

import numpy as np
from numpy.typing import NDArray


def summarise_patches(features: NDArray[np.floating]) -> NDArray[np.float16]:
    """Mean and standard deviation of each feature over an image's patches.

    Args:
        features: (B, P, D).

    Returns:
        (B, 2 D) float16: D means, then D deviations.
    """
    wide = features.astype(np.float32, copy=False)
    return np.concatenate([wide.mean(axis=1), wide.std(axis=1)], axis=1).astype(np.float16)
