"""Mean and spread over seeds: PatchCore, f at random, f trained, and the ensemble with its members.

    python -m benchmarks.seeds --work DIR [--sizes 224 320] [--ratios 0.01] [--seeds 0 1 2] CATEGORY ...

A seed is that of f, of the coreset's first centre and of the held-out groups. Every detector of a category
reads the same cached patch features. Every result is one file under DIR, and what lies there is not computed
again; the tables, and the paired differences to PatchCore by group, are printed from all that lies there.
"""

import argparse
import json
import time
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from reconpatch.data.manifest import build_manifest
from reconpatch.ensemble import Ensemble, fit_folder
from reconpatch.evaluation.evaluate import evaluate
from reconpatch.evaluation.metrics.bootstrap import clusters, draw_groups, weighted_auroc
from reconpatch.features.feature_cache import FeatureCache
from reconpatch.fitted_detector import FittedDetector
from reconpatch.settings import load_settings
from reconpatch.storage.atomic_files import write_json

METRICS = ("image_auroc", "pixel_auroc", "aupro")
PATCHCORE = "PatchCore"
RESAMPLES = 2000
# Overrides, and the preset that goes before them.
VARIANTS: dict[str, tuple[dict[str, Any], str | None]] = {
    PATCHCORE: ({"modulation.enabled": False}, None),
    "ReConPatch, f random": ({"modulation.init": "random", "modulation.steps": 0}, None),
    "ReConPatch, trained": ({}, None),
    "ensemble": ({}, "ensemble-lite"),
}


def measure(
    category: Path, variant: str, size: int, ratio: float, seed: int, cache: FeatureCache
) -> dict[str, Any]:
    """Fit one detector on a category and evaluate it; of an ensemble its members too."""
    overrides, preset = VARIANTS[variant]
    values = {
        **overrides,
        "features.image_size": size,
        "coreset.ratio": ratio,
        "seed": seed,
        "evaluate.pictures": 0,
        "calibrate.suspicious_z": None,  # a look at the training images that changes no figure
    }
    settings = load_settings(None, {**values, "threads": 1}, preset=preset)
    started = time.process_time()
    detector = fit_folder(category, settings, cache)
    seconds = time.process_time() - started
    table = build_manifest(category, settings.data)
    found: dict[str, Any] = {"fit_cpu_seconds": seconds, "detectors": {}}
    for name, one in named(variant, detector):
        evaluation = evaluate(one, table, settings)
        found["detectors"][name] = {
            **{metric: evaluation.metrics[metric] for metric in METRICS},
            "scores": evaluation.table["score"].tolist(),
        }
    return found | {name: evaluation.table[name].tolist() for name in ("label", "group")}


def named(variant: str, detector: FittedDetector) -> Iterator[tuple[str, FittedDetector]]:
    """The detector, and the members of an ensemble, by the names that the table gives them."""
    yield variant, detector
    if isinstance(detector, Ensemble):
        for member in detector.members:
            yield f"its member {member.parts.backbone.name}", member


def tables(work: Path) -> Iterator[str]:
    """One table a category, image size and ratio."""
    found = [json.loads(path.read_text()) for path in sorted(work.glob("*.json"))]
    rows = [
        {**{key: one[key] for key in ("category", "size", "ratio", "seed")}, "detector": name, **values}
        | {"label": one["label"], "group": one["group"]}
        for one in found
        for name, values in one["detectors"].items()
    ]
    places = pd.DataFrame(rows).groupby(["category", "size", "ratio"], sort=False)
    for (category, size, ratio), some in places:
        yield f"\n{category}, {size} px, coreset {ratio:.0%}, {some['seed'].nunique()} seeds\n"
        yield "| detector | image AUROC | pixel AUROC | AUPRO | image AUROC minus PatchCore's, by group |"
        yield "|---|---|---|---|---|"
        plain = some[some["detector"] == PATCHCORE].set_index("seed")
        for name, mine in some.groupby("detector", sort=False):
            points = 100 * mine[list(METRICS)].astype(float)
            cells = [f"{points[metric].mean():.2f} ± {points[metric].std():.2f}" for metric in METRICS]
            yield f"| {name} | {' | '.join(cells)} | {difference(mine.set_index('seed'), plain)} |"


def difference(mine: pd.DataFrame, plain: pd.DataFrame) -> str:
    """Mean over the seeds that both have, with its 95 % percentile interval over the test groups."""
    seeds = [seed for seed in mine.index if seed in plain.index]
    if not seeds or mine["detector"].iloc[0] == PATCHCORE:
        return "-"
    labels = np.array(plain["label"].iloc[0], dtype=bool)
    member, count = clusters(plain["group"].iloc[0], labels.shape)
    draws = draw_groups(labels, member, count, RESAMPLES, np.random.default_rng(0))[:, member]
    weights = np.vstack([np.ones((1, labels.size)), draws])

    def areas(runs: pd.DataFrame) -> np.ndarray:
        return np.mean(
            [weighted_auroc(labels, np.array(runs["scores"][one]), weights) for one in seeds], axis=0
        )

    mean, *resampled = 100 * (areas(mine) - areas(plain))
    low, high = np.quantile(resampled, [0.025, 0.975])
    return f"{mean:+.2f} ({low:+.2f} to {high:+.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("categories", type=Path, nargs="*")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 320])
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.01])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=list(VARIANTS), default=list(VARIANTS))
    given = parser.parse_args()
    cache = FeatureCache(given.work / "cache")
    wanted = product(given.sizes, given.ratios, given.categories, given.seeds, given.variants)
    for size, ratio, category, seed, variant in wanted:
        place = {"category": category.name, "size": size, "ratio": ratio, "seed": seed}
        file = given.work / f"{'-'.join(map(str, [*place.values(), variant]))}.json"
        if not file.exists():
            write_json(file, place | measure(category, variant, size, ratio, seed, cache))
            print(file.name, flush=True)
    print("\n".join(tables(given.work)))


if __name__ == "__main__":
    main()
