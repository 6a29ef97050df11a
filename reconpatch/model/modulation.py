"""The linear modulation f, the only trained part that a fitted detector keeps (paper, section 3.1)."""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from reconpatch.errors import ModelError
from reconpatch.storage.atomic_files import atomic_file
from reconpatch.storage.tensor_files import read_tensors

_CHUNK_ROWS = 1 << 14
_RANKS = {"weight": 2, "mean": 1, "scale": 0}


class Modulation(nn.Module):
    """f(x) = W (x - mean) / scale.

    Attributes:
        weight: W, (dim, D) float32.
        mean: (D,) float32, mean of the patch features that f was trained on.
        scale: float32 scalar > 0, their root mean square deviation.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, weight: Tensor, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)

    @property
    def dim_in(self) -> int:
        """Width D of the patch features."""
        return self.weight.shape[1]

    @property
    def dim(self) -> int:
        """Width of f's output."""
        return self.weight.shape[0]

    def standardise(self, features: Tensor) -> Tensor:
        """(..., D) patch features, centred and divided by the scalar scale."""
        return (features - self.mean) / self.scale

    def forward(self, features: Tensor) -> Tensor:
        """(..., D) patch features to (..., dim), float32."""
        return functional.linear(self.standardise(features), self.weight)

    @torch.inference_mode()
    def transform(self, features: np.ndarray) -> np.ndarray:
        """Modulate many patches, in chunks of bounded memory.

        Args:
            features: (n, D) float16 or float32, may be a memory map.

        Returns:
            (n, dim) float32.

        Raises:
            ModelError: the features are not of width D.
        """
        if features.ndim != 2 or features.shape[1] != self.dim_in:
            raise ModelError(
                f"features of shape {features.shape} do not fit a modulation of {self.dim_in} inputs; "
                "use the backbone, levels and aggregation that it was trained with"
            )
        out = np.empty((len(features), self.dim), dtype=np.float32)
        for start in range(0, len(features), _CHUNK_ROWS):
            chunk = torch.from_numpy(features[start : start + _CHUNK_ROWS].astype(np.float32))
            out[start : start + _CHUNK_ROWS] = self(chunk.to(self.weight.device)).cpu().numpy()
        return out

    def save(self, path: Path) -> None:
        """Write weight, mean and scale as safetensors, atomically; equal weights are equal bytes."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        with atomic_file(path) as temporary:
            save_file(tensors, temporary)

    @classmethod
    def load(cls, path: Path) -> "Modulation":
        """Read what `save` wrote, onto the CPU.

        Raises:
            ModelError: the file is missing, cut short or does not hold a modulation.
        """
        try:
            read = read_tensors(path, _RANKS)
        except FileNotFoundError:
            raise ModelError(f"{path}: is missing; the detector folder is incomplete") from None
        tensors = {name: torch.from_numpy(values) for name, values in read.items()}
        _check(path, tensors)
        return cls(tensors["weight"], tensors["mean"], tensors["scale"])


class Identity(nn.Module):
    """The f of plain PatchCore, which leaves patch features as they are.

    Attributes:
        dim: their width D.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, features: Tensor) -> Tensor:
        """(..., D) to the same."""
        return features

    def transform(self, features: np.ndarray) -> np.ndarray:
        """(n, D) to the same as float32."""
        return features.astype(np.float32)


AnyModulation = Modulation | Identity


class Projection(nn.Module):
    """g(r) = P r, one layer without bias: it leads to the space of the loss and is thrown away.

    Attributes:
        weight: P, (projection dim, dim) float32.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, modulated: Tensor) -> Tensor:
        """(..., dim) to (..., projection dim)."""
        return functional.linear(modulated, self.weight)


def _check(path: Path, tensors: dict[str, Tensor]) -> None:
    if tensors["weight"].shape[1] != len(tensors["mean"]):
        raise ModelError(
            f"{path}: weight takes {tensors['weight'].shape[1]} inputs and mean has {len(tensors['mean'])}; "
            "the file was put together from two detectors, fit it again"
        )
    if not tensors["scale"] > 0:
        raise ModelError(f"{path}: scale is {tensors['scale'].item()}, not above 0; fit it again")
