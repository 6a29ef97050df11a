"""Tiny networks with known weights, and the default extractor at a small size."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from reconpatch.model.patch_extractor import PatchExtractor
from reconpatch.settings import FeatureSettings


def seeded_model(name: str, seed: int = 0) -> torch.nn.Module:
    """A timm model with seeded weights and lively statistics, so that normalisation does something."""
    model = timm.create_model(name).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if key.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            elif tensor.dtype.is_floating_point:
                scale = 1 / max(1, tensor[0].numel()) ** 0.5 if tensor.ndim > 1 else 0.5
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * scale)
    return model


@pytest.fixture(scope="session")
def weight_file(tmp_path_factory: pytest.TempPathFactory):
    """Call with a timm name: the path of a safetensors file with seeded weights for it."""
    folder = tmp_path_factory.mktemp("weights")

    def write(name: str) -> Path:
        path = folder / f"{name}.safetensors"
        if not path.exists():
            save_file(seeded_model(name).state_dict(), path)
        return path

    return write


@pytest.fixture(scope="session")
def small() -> FeatureSettings:
    """The default backbone at 64 px: an 8 x 8 grid."""
    return FeatureSettings(image_size=64, batch_size=4)


@pytest.fixture(scope="session")
def extractor(small: FeatureSettings) -> PatchExtractor:
    """The default backbone at 64 px on the CPU."""
    return PatchExtractor(small, torch.device("cpu"))
