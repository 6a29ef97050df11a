"""Tiles and a region of interest on a real category.

    OMP_NUM_THREADS=1 python benchmarks/tiles.py CATEGORY [--side 448] [--images 60]

The same few images fit four detectors: at the tile's own side, at a larger side as a whole, the same in tiles
with and without overlap. Steps at tile edges: the mean step between neighbouring pixels of nominal test maps
within 8 pixels of an inner tile edge, as a share of all steps, over the same share in the whole image's maps.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from reconpatch import ReConPatch
from reconpatch.data.manifest import build_manifest, image_paths
from reconpatch.evaluation.evaluate import evaluate
from reconpatch.settings import load_settings

TILE = 224


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("category", type=Path)
    parser.add_argument("--side", type=int, default=448)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    given = parser.parse_args()
    table = build_manifest(given.category, load_settings(None, {}).data)
    nominal = image_paths(table[table["split"] == "train"])[: given.images]
    good = image_paths(table[(table["split"] == "test") & (table["label"] == 0)])[:10]
    forms = {
        f"{TILE}, whole": {"features.image_size": TILE},
        f"{given.side}, whole": {"features.image_size": given.side},
        f"{given.side}, tiles, 64 shared": {"features.image_size": given.side, "features.tile": TILE},
        f"{given.side}, tiles, 0 shared": {
            "features.image_size": given.side, "features.tile": TILE, "features.tile_overlap": 0,
        },
    }  # fmt: skip
    steps = None
    print("| detector | image AUROC | pixel AUROC | AUPRO | steps at tile edges | CPU s |")
    print("|---|---|---|---|---|---|")
    for name, params in forms.items():
        start = time.process_time()
        settings = load_settings(None, ["threads=1", "coreset.max_bank=4000", *given.overrides])
        detector = ReConPatch(settings=settings, params=params).fit(nominal)
        found = evaluate(detector, table, detector.settings).metrics
        across = np.mean(
            [np.abs(np.diff(one.anomaly_map, axis=1)).mean(axis=0) for one in detector.predict(good)], axis=0
        )
        tiling, seams = detector.extractor.tiling, "-"
        if len(across) == given.side - 1 and tiling is None:
            steps = across
        if tiling is not None and steps is not None:
            inner = {*tiling.starts[1:], *(first + TILE for first in tiling.starts[:-1])}
            edges = sorted(place - 1 + shift for place in inner for shift in range(-8, 9))
            seams = f"{(across[edges].mean() / across.mean()) / (steps[edges].mean() / steps.mean()):.3f}"
        print(
            f"| {name} | {found['image_auroc']:.4f} | {found['pixel_auroc']:.4f} | {found['aupro']:.4f} "
            f"| {seams} | {time.process_time() - start:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
