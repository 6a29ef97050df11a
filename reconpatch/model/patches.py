"""From feature maps of several levels to one vector a patch (paper, section 3.1; PatchCore, section 3.1)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

_ADAPTIVE_WIDTH = 1024


def aggregate_patches(
    levels: Sequence[Tensor], patch_size: int, method: Literal["average_pool", "adaptive"]
) -> Tensor:
    """Average every location over its neighbourhood and merge the levels on the finest grid.

    Beyond the edge neighbours count as zeros, as in both codes named below.

    Args:
        levels: feature maps (B, C_l, h_l, w_l) float of the same images.
        patch_size: odd side s of the neighbourhood, in locations of each level's own grid.
        method: ``average_pool`` averages s x s per channel, resizes coarser levels bilinearly to the finest
            grid and concatenates (anomalib's PatchCore), D = sum of C_l. ``adaptive`` averages the C_l*s*s
            values of each neighbourhood, in the order channel, row, column, adaptively to 1024, then
            the levels together to D = 1024 (PatchCore's own code); it needs s*s times the memory.

    Returns:
        (B, h, w, D) in the dtype of the levels, h x w the finest level's grid.
    """
    pool = _average_pool if method == "average_pool" else _adaptive_pool
    grid = max((level.shape[-2:] for level in levels), key=lambda size: size[0] * size[1])
    merged = torch.cat([_resize(pool(level, patch_size), grid) for level in levels], dim=1)
    patches = merged.permute(0, 2, 3, 1)
    if method == "average_pool":
        return patches
    batch, height, width, _ = patches.shape
    return functional.adaptive_avg_pool1d(patches.flatten(0, 2)[:, None], _ADAPTIVE_WIDTH).view(
        batch, height, width, _ADAPTIVE_WIDTH
    )


def _average_pool(level: Tensor, patch_size: int) -> Tensor:
    return functional.avg_pool2d(level, patch_size, stride=1, padding=patch_size // 2)


def _adaptive_pool(level: Tensor, patch_size: int) -> Tensor:
    batch, _, height, width = level.shape
    neighbourhoods = functional.unfold(level, patch_size, padding=patch_size // 2)  # (B, C*s*s, h*w)
    flat = neighbourhoods.transpose(1, 2).flatten(0, 1)[:, None]
    pooled = functional.adaptive_avg_pool1d(flat, _ADAPTIVE_WIDTH)
    # Averaging values and resizing maps are linear in different axes, so the order is free: here the
    # resize comes last and works on 1024 maps instead of C*s*s.
    return pooled.view(batch, height, width, _ADAPTIVE_WIDTH).permute(0, 3, 1, 2)


def _resize(level: Tensor, grid: torch.Size) -> Tensor:
    if level.shape[-2:] == grid:
        return level
    return functional.interpolate(level, size=tuple(grid), mode="bilinear", align_corners=False)
