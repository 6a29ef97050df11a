"""The memory bank: nominal vectors that queries are compared with."""

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from reconpatch.errors import DataError, ModelError
from reconpatch.model.nearest_neighbours import NearestNeighbours
from reconpatch.storage.atomic_files import atomic_file
from reconpatch.storage.tensor_files import read_tensors

_KEY = "vectors"


class MemoryBank:
    """Nominal vectors with an exact nearest-neighbour index, built on first use.

    The search runs on the CPU, or where `to` says.

    Args:
        vectors: (M, D) float32, M and D at least 1, all finite.

    Raises:
        DataError: ``vectors`` has another shape or type, or holds NaN or infinities.
    """

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        if vectors.ndim != 2 or 0 in vectors.shape or vectors.dtype != np.float32:
            raise DataError(
                f"bank vectors: {vectors.dtype} of shape {vectors.shape}; must be (M, D) float32, not empty"
            )
        if not np.isfinite(vectors).all():
            raise DataError("bank vectors hold NaN or infinite values; every value must be finite")
        self.vectors = np.ascontiguousarray(vectors)
        self._device: torch.device | None = None
        self._neighbours: dict[int, NDArray[np.int64]] = {}

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dim(self) -> int:
        """Width of the vectors."""
        return int(self.vectors.shape[1])

    @cached_property
    def index(self) -> NearestNeighbours:
        """The search over the vectors; a module, so that a model can hold it."""
        return NearestNeighbours(self.vectors, self._device)

    def to(self, device: torch.device) -> "MemoryBank":
        """Search on ``device`` from now on; returns the bank itself."""
        if device != self._device:
            self._device = device
            self.__dict__.pop("index", None)
        return self

    def search(
        self, queries: NDArray[np.float32], k: int = 1
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The ``k`` nearest bank vectors of each query, nearest first.

        Args:
            queries: (Q, D) float32.
            k: neighbours, 1 to M.

        Returns:
            Euclidean distances (Q, k) float32 and bank indices (Q, k) int64.

        Raises:
            DataError: the queries' width is not the bank's, one of their values is not finite, or ``k``
                is not in 1 to M.
        """
        if queries.ndim != 2 or queries.shape[1] != self.dim:
            raise DataError(f"queries have shape {queries.shape}; must be (Q, {self.dim}) as in the bank")
        if not 1 <= k <= len(self):
            raise DataError(f"k is {k}: must be between 1 and the number of bank vectors, {len(self)}")
        distances, indices = self.index.search(np.ascontiguousarray(queries, dtype=np.float32), k)
        if not np.isfinite(distances).all():
            raise DataError("queries hold NaN or infinite values; every value must be finite")
        return distances, indices

    def neighbours(self, count: int) -> NDArray[np.int64]:
        """The ``count`` nearest bank vectors of each: (M, count) int64, nearest first, computed once.

        A bank with fewer vectors gives (M, M).
        """
        count = min(count, len(self))
        if count not in self._neighbours:
            self._neighbours[count] = self.search(self.vectors, count)[1]
        return self._neighbours[count]

    def save(self, path: Path) -> None:
        """Write the vectors as safetensors, complete or not at all."""
        with atomic_file(path) as temporary:
            save_file({_KEY: self.vectors}, temporary)

    @classmethod
    def load(cls, path: Path) -> "MemoryBank":
        """Read a bank that :meth:`save` wrote.

        Raises:
            ModelError: the file is missing, cut short, or holds something else.
        """
        try:
            return cls(read_tensors(path, {_KEY: 2})[_KEY])
        except FileNotFoundError:
            raise ModelError(f"{path}: the memory bank is missing; give a folder written by save") from None
