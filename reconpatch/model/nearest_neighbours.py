"""Exact Euclidean nearest neighbours by matrix products, on the CPU or a GPU.

scikit-learn, faiss and torch's own cdist were weighed: on the CPU faiss takes 2 to 3 times as long, and none
of them can be exported (docs/adr/0002-faiss.md).
"""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from reconpatch.model.faiss_index import FaissIndex, gpu_index

_CHUNK = 1024
# Of the vectors' mean energy, what of any vector may lie outside the axes: what float32 rounding puts there.
_TAIL = 1e-11
# Squared distances that are held at once, 64 MiB, and values of differences: 2 MiB stay in a core's cache.
_PRODUCTS = 1 << 24
_DIFFERENCES = 1 << 19


class NearestNeighbours(nn.Module):
    """An exact index over vectors (M, D), which may be shorter than D.

    A linear f of w features makes vectors that span w axes at most, however wide they are (512 from
    152 with the default backbone). On those axes, found once, distances between a query and two
    vectors differ by as much as before, so the search gives the same neighbours for fewer products.
    Searches take squared distances from norms and products, whose rounding hides small ones; so the
    distances of those found are computed again from differences of the full vectors.
    """

    vectors: Tensor
    centre: Tensor
    axes: Tensor | None
    short: Tensor
    norms: Tensor

    def __init__(self, vectors: NDArray[np.float32], device: torch.device | None = None) -> None:
        """Index the vectors on ``device``; None: the CPU."""
        super().__init__()
        centre = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
        self.register_buffer("vectors", torch.from_numpy(vectors))
        self.register_buffer("centre", torch.from_numpy(centre))
        self.register_buffer("axes", _axes(vectors, centre))
        short = self._shortened(self.vectors)
        self.register_buffer("short", short)
        self.register_buffer("norms", short.square().sum(dim=1))
        self._faiss: FaissIndex | None = None
        if device is not None and device.type == "cuda":
            self._faiss = gpu_index(short.numpy(), device)
            self.to(device)

    def forward(self, queries: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest vector of each of ``queries`` (Q, D).

        Returns:
            Euclidean distances (Q,), 0 for identical vectors, and indices (Q,) int64.
        """
        nearest = self._nearest(queries, 1)
        return self.distances_to(queries, nearest)[:, 0], nearest[:, 0]

    def distances_to(self, queries: Tensor, indices: Tensor) -> Tensor:
        """(Q, k) distances of ``queries`` (Q, D) to the vectors at ``indices`` (Q, k), by differences."""

        def distances(rows: Tensor, chosen: Tensor) -> Tensor:
            return (self.vectors[chosen] - rows[:, None]).square().sum(dim=2).sqrt()

        rows = _DIFFERENCES // (indices.shape[1] * queries.shape[1])
        return in_blocks(distances, rows, queries, indices)

    @torch.inference_mode()
    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The ``k`` nearest vectors of each of ``queries`` (Q, D).

        Returns:
            Euclidean distances (Q, k) float32, ascending, 0 for identical vectors, and indices (Q, k)
            int64; of equal distances the lowest index comes first.
        """
        asked = torch.from_numpy(queries).to(self.vectors.device)
        nearest = self._nearest(asked, k)
        distances = self.distances_to(asked, nearest).cpu().numpy()
        indices = nearest.cpu().numpy()
        if k == 1:
            return distances, indices
        order = np.lexsort((indices, distances), axis=1)
        return np.take_along_axis(distances, order, axis=1), np.take_along_axis(indices, order, axis=1)

    def _nearest(self, queries: Tensor, k: int) -> Tensor:
        """(Q, k) int64, in no order."""
        if self._faiss is not None:
            return self._faiss.nearest(self._shortened(queries), k)

        def nearest(rows: Tensor) -> Tensor:
            # Less |query|^2, which is the same for all vectors.
            squared = torch.addmm(self.norms, self._shortened(rows), self.short.T, alpha=-2)
            if k == 1:
                return squared.min(dim=1, keepdim=True).indices
            return squared.topk(k, dim=1, largest=False).indices

        return in_blocks(nearest, _PRODUCTS // len(self.vectors), queries)

    def _shortened(self, vectors: Tensor) -> Tensor:
        centred = vectors - self.centre
        return centred if self.axes is None else centred @ self.axes


def in_blocks(function: Callable[..., Tensor], rows: int, *arrays: Tensor) -> Tensor:
    """Apply a function to blocks of rows, which bounds what it holds.

    Args:
        function: of as many tensors as there are ``arrays``; works row by row.
        rows: of a block; 0 is taken as 1.
        arrays: of equal length.
    """
    # A graph for another runtime takes any number of rows and holds no loop.
    if torch.compiler.is_compiling() or len(arrays[0]) <= rows:
        return function(*arrays)
    rows = max(1, rows)
    starts = range(0, len(arrays[0]), rows)
    return torch.cat([function(*(one[start : start + rows] for one in arrays)) for start in starts])


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
