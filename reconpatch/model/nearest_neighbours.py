"""Exact Euclidean nearest neighbours: products of torch on the CPU, faiss on a GPU."""

from typing import Any

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_CHUNK = 1024
# Of the vectors' mean energy, what of any vector may lie outside the axes: what float32 rounding puts there.
_TAIL = 1e-11
# Squared distances that are held at once, 64 MiB.
_PRODUCTS = 1 << 24


class NearestNeighbours:
    """An exact index over vectors (M, D), which may be shorter than D.

    A linear f of w features makes vectors that span w axes at most, however wide they are (512 from
    152 with the default backbone). On those axes, found once, distances between a query and two
    vectors differ by as much as before, so the search gives the same neighbours for fewer products.
    Batched searches take squared distances from norms and products, whose rounding hides small ones;
    so the distances of those found are computed again from differences of the full vectors.
    """

    def __init__(self, vectors: NDArray[np.float32], device: torch.device | None = None) -> None:
        """Index the vectors, on ``device``; None: a GPU where torch and faiss both have one, else the CPU."""
        self._vectors = vectors
        self.centre = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.axes = _axes(vectors, self.centre)
        self._index = _index(self._shortened(vectors), device)

    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The ``k`` nearest vectors of each of ``queries`` (Q, D).

        Returns:
            Euclidean distances (Q, k) float32, ascending, 0 for identical vectors, and indices (Q, k)
            int64; of equal distances the lowest index comes first.
        """
        indices = self._index.nearest(self._shortened(queries), k)
        distances = distances_to(self._vectors, queries, indices)
        if k == 1:
            return distances, indices
        order = np.lexsort((indices, distances), axis=1)
        return np.take_along_axis(distances, order, axis=1), np.take_along_axis(indices, order, axis=1)

    def _shortened(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        centred: NDArray[np.float32] = vectors - self.centre
        if self.axes is not None:
            centred = (torch.from_numpy(centred) @ self.axes).numpy()
        return centred


def distances_to(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], indices: NDArray[np.int64]
) -> NDArray[np.float32]:
    """(Q, k) float32 Euclidean distances of ``queries`` (Q, D) to ``vectors[indices]``, by differences.

    Args:
        vectors: (M, D) float32.
        queries: (Q, D) float32.
        indices: (Q, k) int64.
    """
    distances = np.empty(indices.shape, dtype=np.float32)
    for start in range(0, len(queries), _CHUNK):
        part = slice(start, start + _CHUNK)
        difference = vectors[indices[part]]
        difference -= queries[part, None]
        distances[part] = np.einsum("qkd,qkd->qk", difference, difference)
    return np.sqrt(distances, out=distances)


def _axes(vectors: NDArray[np.float32], centre: NDArray[np.float32]) -> Tensor | None:
    """(D, r) orthonormal axes that hold all centred vectors, or None where that takes over half of D."""
    width = vectors.shape[1]
    products = torch.zeros((width, width), dtype=torch.float64)
    for start in range(0, len(vectors), _CHUNK):
        part = torch.from_numpy(vectors[start : start + _CHUNK] - centre).double()
        products.addmm_(part.T, part)
    energies, axes = torch.linalg.eigh(products)
    # Ascending: the axes to drop come first.
    dropped = int((energies.clamp(min=0).cumsum(0) < _TAIL * energies.sum()).sum())
    if width <= 2 * dropped < 2 * width:
        dropped = _spanned_by_none(vectors, centre, axes[:, :dropped], float(energies.sum()) / len(vectors))
    return axes[:, dropped:].float() if width <= 2 * dropped < 2 * width else None


def _spanned_by_none(
    vectors: NDArray[np.float32], centre: NDArray[np.float32], axes: Tensor, energy: float
) -> int:
    """How many of the leading ``axes`` (D, n) hold nothing of any single vector, of ``energy`` on the mean.

    On the mean over many vectors a direction that one vector alone holds disappears.
    """
    largest = torch.zeros(axes.shape[1])
    axes = axes.float()
    for start in range(0, len(vectors), _CHUNK):
        part = torch.from_numpy(vectors[start : start + _CHUNK] - centre)
        largest = torch.maximum(largest, (part @ axes).square().cumsum(1).amax(0))
    return int((largest < _TAIL * energy).sum())


class _Products:
    """Squared distances from one product a block: faster than faiss on the CPU (ADR 2)."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self.width = vectors.shape[1]
        self._vectors = torch.from_numpy(vectors)
        self._norms = self._vectors.square().sum(1)

    def nearest(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """(Q, k) int64."""
        rows = max(1, _PRODUCTS // len(self._vectors))
        every = torch.from_numpy(queries)
        found = [self._nearest(every[start : start + rows], k) for start in range(0, len(every), rows)]
        return torch.cat(found).numpy() if found else np.empty((0, k), np.int64)

    def _nearest(self, block: Tensor, k: int) -> Tensor:
        # Less |query|^2, which is the same for all vectors.
        squared = torch.addmm(self._norms, block, self._vectors.T, alpha=-2)
        if k == 1:
            return squared.min(dim=1, keepdim=True).indices
        return squared.topk(k, dim=1, largest=False).indices


class _GpuIndex:
    """A faiss ``IndexFlatL2`` on a GPU."""

    def __init__(self, vectors: NDArray[np.float32], number: int) -> None:
        self.width = vectors.shape[1]
        index: Any = faiss.IndexFlatL2(self.width)
        self._index: Any = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), number, index)
        self._index.add(vectors)

    def nearest(self, queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        """(Q, k) int64."""
        indices: NDArray[np.int64] = self._index.search(queries, k)[1]
        return indices


def _index(vectors: NDArray[np.float32], device: torch.device | None) -> _Products | _GpuIndex:
    """The only place that chooses between CPU and GPU search; for a GPU torch and faiss need to have one."""
    has_gpu = torch.cuda.is_available() and hasattr(faiss, "StandardGpuResources")
    if not has_gpu or (device is not None and device.type != "cuda"):
        return _Products(vectors)
    number = device.index if device is not None else None
    return _GpuIndex(vectors, torch.cuda.current_device() if number is None else number)
