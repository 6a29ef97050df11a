"""Where does a patch look? The centre of what its features depend on, against the centre of its cell.

    OMP_NUM_THREADS=1 python -m benchmarks.map_centres [--backbones NAME ...] [CATEGORY ...]

Anomaly maps place each patch at the centre of its cell. By the geometry of strides and paddings alone patches
of most networks look elsewhere. The first table says where, as the centroid of the squared gradient of random
combinations of the merged patch features, in pixels from the cell's centre (down, right; 0 is where maps have
it): by random weights, which know the geometry alone, and by trained ones where there are any. The second
says, of each category, what AUPRO maps reach when they are shifted by a few pixels: if patches lay elsewhere,
the best shift would not be 0.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import timm
import torch
from torch import nn
from torch.nn import functional

from reconpatch.data.manifest import build_manifest
from reconpatch.detector import ReConPatch
from reconpatch.errors import ModelError
from reconpatch.evaluation.ground_truth import moved_defect, read_ground_truth
from reconpatch.evaluation.metrics.image_metrics import aupro
from reconpatch.model.backbone import load_backbone
from reconpatch.model.patches import aggregate_patches
from reconpatch.settings import FeatureSettings, load_settings

LEVELS = (2, 3)
BACKBONES = (
    "tf_efficientnet_lite0",
    "tf_efficientnet_lite1",
    "tf_efficientnet_lite2",
    "resnet18",
    "wide_resnet50_2",
    "densenet201",
    "resnext101_32x8d",
)
SHIFTS = (-6, -4, -2, 0, 2, 4, 6)


def geometric_centre(name: str, side: int, networks: int = 6, draws: int = 4) -> tuple[float, float]:
    """`gradient_centre` by a network's geometry alone: the mean over networks with random weights."""
    found = [gradient_centre(_random_network(name, seed), side, draws) for seed in range(networks)]
    down, right = np.mean(found, axis=0)
    return float(down), float(right)


def _random_network(name: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    network: nn.Module = timm.create_model(name, features_only=True, out_indices=LEVELS, pretrained=False)
    return network.eval()


def gradient_centre(network: nn.Module, side: int, draws: int = 16) -> tuple[float, float]:
    """Centroid of what a central patch depends on, (down, right) in pixels from the centre of its cell.

    Args:
        network: from (B, 3, S, S) to levels.
        side: S.
        draws: random images, each with one random combination of the patch's features.
    """
    generator = torch.Generator().manual_seed(0)
    found = []
    with torch.enable_grad():
        for _ in range(draws):
            noise = torch.randn(1, 3, side, side, generator=generator)
            image = (3 * functional.avg_pool2d(noise, 5, 1, 2)).requires_grad_()
            patches = aggregate_patches(network(image), 3, "average_pool")
            cell, stride = patches.shape[1] // 2, side / patches.shape[1]
            weights = torch.randn(patches.shape[3], generator=generator)
            (gradient,) = torch.autograd.grad((patches[0, cell, cell] * weights).sum(), image)
            mass = gradient[0].square().sum(0)
            places = torch.arange(side) - ((cell + 0.5) * stride - 0.5)
            found.append([float((mass.sum(1 - axis) * places).sum() / mass.sum()) for axis in (0, 1)])
    down, right = np.mean(found, axis=0)
    return float(down), float(right)


def centres(names: Sequence[str], side: int) -> Iterator[str]:
    """The first table."""
    yield f"{side} px, levels {LEVELS}: centre of a patch, pixels down and right of the centre of its cell\n"
    yield "| backbone | random weights | trained weights |"
    yield "|---|---|---|"
    for name in names:
        cells = ["{:+.1f}, {:+.1f}".format(*geometric_centre(name, side))]
        try:
            trained = load_backbone(FeatureSettings(backbone=name, image_size=side, levels=LEVELS))
            cells.append("{:+.1f}, {:+.1f}".format(*gradient_centre(trained, side)))
        except ModelError:
            cells.append("none here")
        yield f"| {name} | {' | '.join(cells)} |"


def shifted(category: Path, side: int) -> dict[int, float]:
    """AUPRO of a category by how far its maps are shifted, down and right alike."""
    settings = load_settings(None, {"features.image_size": side, "threads": 1, "coreset.ratio": 0.01})
    detector = ReConPatch(settings=settings).fit(category)
    table = build_manifest(category, settings.data)
    test = table[table["split"] == "test"]
    maps, masks = [], []
    found = detector.stream([category / path for path in test["path"]])
    for row, prediction in zip(test.itertuples(), found, strict=True):
        mask = read_ground_truth(row, category, settings)
        if mask is None and row.label == 1:
            continue
        nothing = np.zeros(prediction.anomaly_map.shape, bool)
        maps.append(prediction.anomaly_map)
        masks.append(nothing if mask is None or row.label == 0 else moved_defect(mask, detector))
    kept = [place for place, mask in enumerate(masks) if mask is not None]
    reach = max(SHIFTS)
    return {
        shift: aupro(
            [masks[place][reach:-reach, reach:-reach] for place in kept],
            [np.roll(maps[place], (shift, shift), (0, 1))[reach:-reach, reach:-reach] for place in kept],
        )
        for shift in SHIFTS
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("categories", type=Path, nargs="*")
    parser.add_argument("--backbones", nargs="*", default=list(BACKBONES))
    parser.add_argument("--side", type=int, default=224)
    given = parser.parse_args()
    for line in centres(given.backbones, given.side):
        print(line, flush=True)
    if given.categories:
        print("\nAUPRO by how far the maps are shifted, pixels down and right\n")
        print(f"| category | {' | '.join(f'{shift:+d}' for shift in SHIFTS)} |")
        print(f"|---|{'---|' * len(SHIFTS)}")
    for category in given.categories:
        found = shifted(category, given.side)
        print(f"| {category.name} | {' | '.join(f'{value:.4f}' for value in found.values())} |", flush=True)


if __name__ == "__main__":
    main()
