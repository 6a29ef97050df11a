"""Variants of f that a study compares: changes of the parameters, and of what is no parameter."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

from reconpatch.model.memory_bank import MemoryBank
from reconpatch.training import training_loop

# Each differs from the base in what it names; PatchCore has no f. What is no setting of the modulation:
# `batches` and `teacher` (`other_training`), `standardise` (the features), `select` (where the coreset is
# selected), `reweighted` (eq. 10 on the very same f and bank too).
BASE: dict[str, Any] = {
    "dim": 512, "projection_dim": 128, "init": "isometry", "neighbours": 5, "alpha": 0.5, "sigma": None,
    "ema": 0.999, "steps": 1000, "learning_rate": 1e-3,
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "PatchCore": {"f": False, "reweighted": True},
    "random f, untrained": {"init": "random", "steps": 0},
    "random f": {"init": "random"},
    "base": {"reweighted": True},
    "alpha 0": {"alpha": 0.0, "reweighted": True},
    "alpha 1": {"alpha": 1.0},
    "lr 3e-4": {"learning_rate": 3e-4},
    "lr 3e-3": {"learning_rate": 3e-3},
    "steps 500": {"steps": 500},
    "steps 3000": {"steps": 3000},
    "120 epochs at 1e-5": {"steps": None, "epochs": 120, "learning_rate": 1e-5},
    "120 epochs at 1e-5, random f": {"steps": None, "epochs": 120, "learning_rate": 1e-5, "init": "random"},
    "120 epochs at 1e-4": {"steps": None, "epochs": 120, "learning_rate": 1e-4},
    "gamma 0.99": {"ema": 0.99},
    "gamma 1, a teacher that stays": {"ema": 1 - 1e-9},
    "teacher not normalised": {"teacher": "as it is"},
    "g 512": {"projection_dim": 512},
    "sigma 3": {"sigma": 3.0},
    "k 30": {"neighbours": 30},
    "coreset of unmodulated features": {"select": "features"},
    "coreset of 64 random projections": {"select": "projected"},
    "PatchCore, coreset of 64 random projections": {"f": False, "select": "projected"},
    "alpha 0, lr 3e-3": {"alpha": 0.0, "learning_rate": 3e-3},
    "dim 64, untrained": {"dim": 64, "steps": 0},
    "64 principal directions": {"principal": 64},
    "alpha 0, batch 1024": {"alpha": 0.0, "batch_size": 1024},
    "batches of neighbours": {"batches": "neighbours"},
    "alpha 0, batches of neighbours": {"alpha": 0.0, "batches": "neighbours"},
    "alpha 0, batches of 8 images": {"alpha": 0.0, "batches": "images"},
    "each dimension to variance 1, untrained": {"standardise": True, "steps": 0},
    "each dimension to variance 1": {"standardise": True},
    "whitening 0.25": {"whitening": 0.25},
    "whitening 0.25, untrained": {"whitening": 0.25, "steps": 0},
    "whitening 0.25, alpha 0": {"whitening": 0.25, "alpha": 0.0},
    "whitening 0.5": {"whitening": 0.5},
    "whitening 0.5, untrained": {"whitening": 0.5, "steps": 0},
    "whitening 0.5, alpha 0": {"whitening": 0.5, "alpha": 0.0},
}
# Names' ends, mode and b of eq. 10.
REWEIGHTED = {
    ", image re-weighted, b 9": ("image", 9),
    ", image re-weighted, b 3": ("image", 3),
    ", patches re-weighted, b 9": ("patch", 9),
}


@contextmanager
def other_training(changes: dict[str, Any], rows: np.ndarray, patches: int) -> Iterator[None]:
    """Choices that are no parameter, put into the training for as long as the block lasts.

    ``batches``: ``images`` takes all patches of a step from 8 images; ``neighbours`` takes random patches
    with the five nearest of each among 20,000 (as the parent method STML composes its batches).
    ``teacher``: its embeddings are compared as they are, not L2-normalised.
    """
    with ExitStack() as changed:
        if "batches" in changes:
            draws = {
                "images": partial(_batches_of_images, patches),
                "neighbours": partial(_batches_of_neighbours, rows),
            }
            changed.enter_context(patch.object(training_loop, "balanced_batches", draws[changes["batches"]]))
        if "teacher" in changes:
            changed.enter_context(patch.object(training_loop.functional, "normalize", lambda z, **_: z))
        yield


def _batches_of_images(
    patches: int, parts: Sequence[int], size: int, generator: torch.Generator, images: int = 8
) -> Iterator[np.ndarray]:
    while True:
        picked = torch.randperm(sum(parts) // patches, generator=generator)[:images]
        yield np.concatenate(
            [
                int(image) * patches + torch.randperm(patches, generator=generator)[: size // images].numpy()
                for image in picked
            ]
        )


def _batches_of_neighbours(
    rows: np.ndarray, _parts: Sequence[int], size: int, generator: torch.Generator, pool: int = 20_000
) -> Iterator[np.ndarray]:
    among = torch.randperm(len(rows), generator=generator)[:pool].sort().values.numpy()
    vectors = rows[among].astype(np.float32)
    nearest = MemoryBank(vectors).search(vectors, 6)[1]  # itself and five others
    share = size // nearest.shape[1]
    while True:
        order = torch.randperm(len(among), generator=generator).numpy()
        for start in range(0, len(order) - share + 1, share):
            yield among[np.unique(nearest[order[start : start + share]])]
