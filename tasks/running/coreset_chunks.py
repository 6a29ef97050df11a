"""What was kept of a coreset's chunks: derived, by digest of all that it depends on, and safe to delete."""

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from reconpatch.storage.object_store import Store
from tasks.running.stage_folders import Job

_VECTORS = "vectors"


def read_chunk(job: Job, key: str) -> NDArray[np.float32] | None:
    """The (n, D) float32 vectors under ``key``; None when absent or damaged."""
    content = _store(job).get(f"chunks/{key}")
    try:
        return None if content is None else load(content)[_VECTORS]
    except (SafetensorError, KeyError):
        return None


def write_chunk(job: Job, key: str, vectors: NDArray[np.float32]) -> None:
    """Keep them."""
    _store(job).put(f"chunks/{key}", save({_VECTORS: vectors}))


def _store(job: Job) -> Store:
    return job.shared or Store((job.project.resolve() / ".cache").as_uri())
