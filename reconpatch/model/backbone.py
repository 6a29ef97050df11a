"""A frozen ImageNet network that yields feature maps of chosen levels."""

import difflib
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import timm
import torch
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.hrnet import HighResolutionNetFeatures
from timm.models.mobilenetv3 import MobileNetV3Features
from torch import Tensor, nn

from reconpatch.errors import ModelError
from reconpatch.model.batch_norm_folding import fold_batch_norm
from reconpatch.model.weights import Weights, find_weights
from reconpatch.settings import FeatureSettings

# timm's feature networks that are built without a head; its others are cut out of the whole model.
_HEADLESS = (EfficientNetFeatures, MobileNetV3Features, HighResolutionNetFeatures)


class Backbone(nn.Module):
    """A frozen network, cut after the deepest level that is asked for.

    Attributes:
        mean: (3,) per-channel mean of inputs in 0..1 that the weights were trained with.
        std: (3,) likewise the standard deviation.
        weights_sha256: hex digest of the weights (see `Weights`).
        weights_source: where they came from.
    """

    def __init__(
        self, network: nn.Module, mean: Sequence[float], std: Sequence[float], sha256: str, source: str
    ) -> None:
        super().__init__()
        self.network = network
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.weights_sha256 = sha256
        self.weights_source = source

    def forward(self, images: Tensor) -> list[Tensor]:
        """Feature maps of normalised images.

        Args:
            images: (B, 3, S, S) float, ``(value / 255 - mean) / std``.

        Returns:
            (B, C_l, h_l, w_l) a level, from the finest to the coarsest.
        """
        levels: list[Tensor] = self.network(images)
        return levels


def load_backbone(settings: FeatureSettings) -> Backbone:
    """Build the network with its pretrained weights; weights are never random.

    Args:
        settings: ``backbone``, ``weights``, ``levels`` and the network's side are used.

    Raises:
        ModelError: the name is unknown, a level does not exist, the weights are missing or do not fit,
            or the network cannot take images of that size.
    """
    name = settings.backbone
    if not timm.is_model(name):
        raise ModelError(f"features.backbone: timm {timm.__version__} has no model `{name}`{_near(name)}")
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise ModelError(f"features.backbone: {error}") from None
    weights = find_weights(name, settings.weights)
    _check(name, weights, settings.levels)
    network = _build_features(name, weights.tensors, settings.levels)
    network = _Nchw(_cut(network)).eval().requires_grad_(False)
    side = settings.network_side
    name_of = "image_size" if settings.tile is None else "tile"
    example = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    try:
        network = fold_batch_norm(network, example)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"features.backbone: {name} cannot take images of {side} x {side} pixels ({error}); "
            f"set features.{name_of} to {config.input_size[-1]} or choose another backbone"
        ) from None
    return Backbone(network, config.mean, config.std, weights.sha256, weights.source).eval()


class _Nchw(nn.Module):
    """Some of timm's networks put the channels last; here they always come second."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.last = str(getattr(network, "output_fmt", "NCHW")).endswith("NHWC")

    def forward(self, images: Tensor) -> list[Tensor]:
        levels: list[Tensor] = self.network(images)
        return [level.permute(0, 3, 1, 2) for level in levels] if self.last else levels


def _check(name: str, weights: Weights, levels: Sequence[int]) -> None:
    """Fit the weights to the whole model, classifier and all; shapes alone, so it costs no memory."""
    shapes = {key: tensor.to("meta") for key, tensor in weights.tensors.items()}
    try:
        with torch.device("meta"):
            full = _build(name, shapes)
    except (RuntimeError, KeyError) as error:
        problems = " ".join(str(error).split())
        raise ModelError(
            f"weights ({weights.source}) do not fit backbone {name}: {textwrap.shorten(problems, 400)}; "
            f"give the state dict of timm's {name} (features.weights), or the backbone that they belong to"
        ) from None
    count = len(getattr(full, "feature_info", ()))
    wrong = [level for level in levels if not 0 <= level < count]
    if wrong:
        valid = ", ".join(map(str, range(count))) or "none"
        raise ModelError(f"features.levels: {name} has no level {wrong[0]}; its levels are: {valid}")


def _build(name: str, tensors: Mapping[str, Tensor], **options: Any) -> nn.Module:
    # A copy, since timm takes the classifier out of the dict that it is given.
    overlay = {"state_dict": dict(tensors)}
    model: nn.Module = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    return model


def _build_features(name: str, tensors: Mapping[str, Tensor], levels: Sequence[int]) -> nn.Module:
    """The network that yields the levels; `_check` has fitted the weights to the whole model before."""
    options = {"features_only": True, "out_indices": sorted(set(levels))}
    with torch.device("meta"):
        empty = timm.create_model(name, **options)
    if isinstance(empty, _HEADLESS):
        # timm would warn of the head's weights, for which these have no place.
        kept = empty.state_dict().keys()
        tensors = {key: tensor for key, tensor in tensors.items() if key in kept}
    return _build(name, tensors, **options)


def _cut(network: nn.Module) -> nn.Module:
    """Drop the stages behind the deepest level; timm's other feature networks do so themselves."""
    if isinstance(network, (EfficientNetFeatures, MobileNetV3Features)):
        deepest = max(info["stage"] for info in network.feature_info.get_dicts())
        network.blocks = network.blocks[:deepest]
    return network


def _near(name: str) -> str:
    near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else "; timm.list_models() lists what it has"
