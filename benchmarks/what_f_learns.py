"""What training does to distances: how far f stretches each principal direction of its patch features.

    OMP_NUM_THREADS=1 python -m benchmarks.what_f_learns CATEGORY ... [--images 100] [--set section.key=value]

f starts as an isometry, so 1 means that a difference along the direction counts as it did before.
Printed are means of |W v|^2 over tenths of the directions v, from least to most variance.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.nominal import nominal_patches
from reconpatch.model.modulation import Modulation
from reconpatch.settings import load_settings
from reconpatch.training.training_loop import train_modulation

TENTHS = 10


def stretches(rows: np.ndarray, modulation: Modulation) -> np.ndarray:
    """(D,) |W v|^2 of the principal directions v of (n, D) patch features, ascending in variance."""
    _, directions = np.linalg.eigh(np.cov(rows.astype(np.float64), rowvar=False))
    weight = modulation.weight.detach().double().numpy()
    return np.square(weight @ directions).sum(axis=0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("categories", type=Path, nargs="+")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--set", action="append", default=[], metavar="section.key=value")
    given = parser.parse_args()
    settings = load_settings(None, dict(one.split("=", 1) for one in given.set))
    torch.set_num_threads(1)
    print("| category | " + " | ".join(f"{tenth + 1}" for tenth in range(TENTHS)) + " |")
    print("|" + "---|" * (TENTHS + 1))
    for category in given.categories:
        features = nominal_patches(category, given.images, settings)
        rows = features.reshape(-1, features.shape[-1])
        found = stretches(rows, train_modulation(rows, settings.modulation, seed=settings.seed).modulation)
        cells = [f"{part.mean():.2f}" for part in np.array_split(found, TENTHS)]
        print(f"| {category.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
