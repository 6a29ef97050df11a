"""Folding batch normalisation into the convolution before it: the same function in fewer passes."""

import copy
import logging
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

_LOG = logging.getLogger(__name__)
_TOLERANCE = 1e-4


@torch.no_grad()
def fold_batch_norm(network: nn.Module, example: Tensor) -> nn.Module:
    """Fold every batch normalisation that directly follows a convolution into it.

    What follows what is seen in a run, not guessed from names, and the result is compared: where folding
    changes the features (a convolution whose output is used twice), the network is returned as it was.

    Args:
        network: frozen, in eval mode, with a list of tensors as output.
        example: (B, 3, S, S) float32 input of the size that will be used, with values as in use.

    Returns:
        A folded copy whose outputs differ by at most 1e-4 of each output's largest value, or ``network``.
    """
    folded = copy.deepcopy(network)
    for convolution, name in _followed_by_norm(folded, example):
        _fold(folded, convolution, name)
    for before, after in zip(network(example), folded(example), strict=True):
        if not (before - after).abs().max() <= _TOLERANCE * before.abs().max():
            _LOG.info("batch normalisation is not folded: it would change this network's features")
            return network
    return folded


def _followed_by_norm(network: nn.Module, example: Tensor) -> list[tuple[nn.Conv2d, str]]:
    """Convolutions and the name of the batch normalisation that takes their very output."""
    names = {module: name for name, module in network.named_modules()}
    produced: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    pairs = []

    def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if isinstance(module, nn.Conv2d):
            # Keeping the tensor keeps its id from being given to another one.
            produced[id(output)] = module, output
        elif isinstance(module, nn.BatchNorm2d) and module.track_running_stats and id(inputs[0]) in produced:
            pairs.append((produced[id(inputs[0])][0], names[module]))

    hooks = [module.register_forward_hook(note) for module in names]
    try:
        network(example)
    finally:
        for hook in hooks:
            hook.remove()
    return pairs


def _fold(network: nn.Module, convolution: nn.Conv2d, name: str) -> None:
    norm = network.get_submodule(name)
    assert isinstance(norm, nn.BatchNorm2d)  # noqa: S101
    assert norm.running_mean is not None  # noqa: S101
    assert norm.running_var is not None  # noqa: S101
    weight, bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var,
        norm.eps, norm.weight, norm.bias,
    )  # fmt: skip
    convolution.weight, convolution.bias = weight, bias
    network.set_submodule(name, norm.act if isinstance(norm, BatchNormAct2d) else nn.Identity())
