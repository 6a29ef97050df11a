"""Mini-batches of random patches out of an array that need not fit into memory."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from reconpatch.errors import DataError


def as_rows(features: np.ndarray, name: str) -> np.ndarray:
    """The features, which must be (n, D) float16 or float32 with n >= 1.

    Raises:
        DataError: they are something else; the message calls them ``name``.
    """
    if features.ndim != 2 or not features.size or features.dtype not in (np.float16, np.float32):
        raise DataError(
            f"{name} of shape {features.shape} and type {features.dtype}: "
            "must be (n, D) float16 or float32 with at least one patch"
        )
    return features


def random_batches(count: int, batch_size: int, generator: torch.Generator) -> Iterator[np.ndarray]:
    """Endless batches of row numbers: one random pass over all patches after the other.

    A remainder smaller than a batch is left out of its pass; fewer patches than a batch make one
    batch of all of them.

    Args:
        count: number of patches.
        batch_size: patches a batch.
        generator: of the CPU; alone decides the order.
    """
    size = min(batch_size, count)
    while True:
        order = torch.randperm(count, generator=generator).numpy()
        for start in range(0, count - size + 1, size):
            yield order[start : start + size]


def balanced_batches(
    parts: Sequence[int], batch_size: int, generator: torch.Generator
) -> Iterator[np.ndarray]:
    """Endless batches, in random order, with as many rows of every part, which has passes of its own.

    Args:
        parts: rows of each part, one part after another.
        batch_size: patches a batch, rounded down to a multiple of the number of parts (a part smaller than
            its share gives all of its rows), at least one of each.
        generator: of the CPU; alone decides the order.
    """
    share = max(1, batch_size // len(parts))
    starts = np.cumsum([0, *parts[:-1]])
    passes = [random_batches(count, share, generator) for count in parts]
    while True:
        batch = np.concatenate([start + next(rows) for start, rows in zip(starts, passes, strict=True)])
        # In random order, as of one part: the first patches of a batch stand for all in sigma's median.
        yield batch if len(parts) == 1 else batch[torch.randperm(len(batch), generator=generator).numpy()]


def load_batch(rows: np.ndarray, picked: np.ndarray, device: torch.device) -> Tensor:
    """The picked rows as a float32 tensor on the device."""
    return torch.from_numpy(rows[picked].astype(np.float32)).to(device)
