"""Float32 tensors of a safetensors file; what a header claims is compared before anything is read."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from reconpatch.errors import ModelError
from reconpatch.storage.atomic_files import open_regular

_SHOWN = 5  # tensors that a message names


def read_tensors(path: Path, ranks: Mapping[str, int]) -> dict[str, NDArray[np.float32]]:
    """Read the tensors of these names and ranks, all of them finite.

    Raises:
        FileNotFoundError: there is no such file.
        ModelError: the file cannot be read, is larger than the machine's memory, or holds other tensors.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        with open_regular(path) as stream:
            size = os.fstat(stream.fileno()).st_size
        if size > memory:
            raise ModelError(
                f"{path}: has {size / 2**30:.1f} GiB and this machine {memory / 2**30:.1f} GiB of memory; "
                "load it on a machine with more memory"
            )
        with safe_open(path, "numpy") as file:
            _check(path, file, ranks)
            tensors = {name: np.asarray(file.get_tensor(name)) for name in ranks}
    except FileNotFoundError:
        raise
    except MemoryError:
        raise ModelError(f"{path}: needs more memory than is free; end other programs") from None
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelError(f"{path}: no complete safetensors file ({error}); fit or copy it again") from None
    for name, tensor in tensors.items():
        if not np.isfinite(tensor).all():
            raise ModelError(f"{path}: {name} is not finite float32; fit the detector again")
    return tensors


def _check(path: Path, file: Any, ranks: Mapping[str, int]) -> None:
    names = sorted(file.keys())
    if names != sorted(ranks):
        shown = [*names[:_SHOWN], "..."] if len(names) > _SHOWN else names
        raise ModelError(f"{path}: holds {shown}, not {sorted(ranks)}; fit or copy the detector again")
    for name, rank in ranks.items():
        part = file.get_slice(name)
        shape, kind = part.get_shape(), part.get_dtype()
        if len(shape) != rank:
            raise ModelError(f"{path}: {name} has the rank {len(shape)}, not {rank}; fit the detector again")
        if kind != "F32":
            raise ModelError(f"{path}: {name} is {kind}, not finite float32; fit the detector again")
        if 0 in shape:
            raise ModelError(f"{path}: {name} of shape {shape} is empty; fit the detector again")
