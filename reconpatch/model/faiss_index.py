"""faiss's exact index on a GPU where it is installed; else torch searches there (docs/adr/0002-faiss.md)."""

import importlib
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class FaissIndex:
    """A faiss ``IndexFlatL2`` on a GPU."""

    def __init__(self, index: Any) -> None:
        """Take a filled index."""
        self._index = index

    def nearest(self, queries: Tensor, k: int) -> Tensor:
        """(Q, k) int64 positions of the nearest vectors of ``queries`` (Q, r), on their device."""
        found: NDArray[np.int64] = self._index.search(queries.cpu().numpy(), k)[1]
        return torch.from_numpy(found).to(queries.device)


def gpu_index(vectors: NDArray[np.float32], device: torch.device) -> FaissIndex | None:
    """An index over vectors (M, r) on a CUDA device; None where no faiss with a GPU is installed."""
    try:
        faiss: Any = importlib.import_module("faiss")
    except ImportError:
        return None
    if not hasattr(faiss, "StandardGpuResources"):
        return None
    number = torch.cuda.current_device() if device.index is None else device.index
    index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), number, faiss.IndexFlatL2(vectors.shape[1]))
    index.add(np.ascontiguousarray(vectors))
    return FaissIndex(index)
