"""Mini-batches of random patches out of an array that need not fit into memory."""

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from reconpatch.errors import DataError


class HasFeatures(Protocol):
    """Anything that yields its patch features as one array, such as `PatchFeatures`."""

    def as_array(self) -> np.ndarray:
        """(n, D) float16 or float32."""


def as_rows(features: np.ndarray | HasFeatures, name: str) -> np.ndarray:
    """The features as (n, D) float16 or float32 with n >= 1, without a copy.

    Raises:
        DataError: they are something else; the message calls them ``name``.
    """
    rows = features if isinstance(features, np.ndarray) else features.as_array()
    if rows.ndim != 2 or not rows.size or rows.dtype not in (np.float16, np.float32):
        raise DataError(
            f"{name} of shape {rows.shape} and type {rows.dtype}: "
            "must be (n, D) float16 or float32 with at least one patch"
        )
    return rows


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
    """Endless batches with as many rows of every part, whatever their sizes: each part has passes of its own.

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
        yield np.concatenate([start + next(rows) for start, rows in zip(starts, passes, strict=True)])


def load_batch(rows: np.ndarray, picked: np.ndarray, device: torch.device) -> Tensor:
    """The picked rows as a float32 tensor on the device."""
    return torch.from_numpy(rows[picked].astype(np.float32)).to(device)
